"""Which page explains a refusal, and that it is there."""

from penstock.api.help_links import HELP
from tests.site.page_reader import Hotel


async def test_a_refusal_names_the_page_that_explains_it_and_the_page_is_there(hotel: Hotel) -> None:
    user, spent = await hotel.house.user(), await hotel.house.user("few")
    reader = hotel.reader()
    for _ in range(5):
        await hotel.house.ask("chat", "chat-plain", spent)
    answers = [
        await hotel.house.http("GET", "/v1/models"),
        await hotel.house.http("GET", "/v1/models", "sk-ps-wrong"),
        await hotel.house.ask("messages", "chat-plain", spent),
    ]
    for answer in answers[:2]:
        assert answer.headers["link"] == f'<{HELP[answer.code].decode()}>; rel="help"'
    receipt = f"/requests/{answers[2].headers['x-request-id']}"
    assert answers[2].headers["link"] == f'<{receipt}>; rel="help"', "a limit is explained by its own page"
    good = await hotel.house.ask("chat", "chat-plain", user)
    assert "link" not in good.headers
    for page in HELP.values():
        path, _, anchor = page.decode().partition("#")
        text = await reader.get(path)
        assert text.status_code in {200, 303}
        assert not anchor or f'id="{anchor}"' in text.text, page
