"""The document: every mistake is named by its place, and what is written reads back the same."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from penstock.core.catalog import (
    NO_SIGN_IN,
    STRAIGHT,
    Capabilities,
    Credential,
    Model,
    Target,
    with_profile_values,
)
from penstock.core.profile import Profile
from penstock.domain.catalog.catalog import Catalog, Plan
from penstock.domain.catalog.catalog_store import default_catalog
from penstock.domain.catalog.reach_fields import KEPT_AS, SIGN_IN, kept, parted
from penstock.domain.catalog.toml_document import CatalogDocument, CatalogError, check, parse
from penstock.domain.catalog.toml_writer import dump
from penstock.providers.table import KINDS

PROVIDER = '[[provider]]\nid = "anthropic"\n'
MODEL = '[[model]]\nid = "m"\ntargets = [{ provider = "anthropic", model = "up" }]\n'
PLAN = '[[plan]]\nid = "free"\ndaily_requests = 1\nconcurrent_requests = 1\nmodels = ["m"]\n'


def read(text: str) -> CatalogDocument:
    document = parse(text, KINDS)
    check(document, document)
    return document


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(CatalogError) as caught:
        read(text)
    return caught.value.problems


def test_the_documented_example_reads():
    document = parse(
        """
        [[provider]]
        id = "anthropic"
        speaks = { messages = "https://api.anthropic.com/v1" }
        secret = "env:ANTHROPIC_API_KEY"
        auth = "x-api-key"

        [[model]]
        id = "claude-sonnet-4.6"
        aliases = ["claude-sonnet-4-6", "claude-sonnet-4-6-*"]
        targets = [{ provider = "anthropic", model = "claude-sonnet-4-6", priority = 0, weight = 1 }]
        max_output_tokens = 64000

        [[plan]]
        id = "free"
        daily_requests = 5000
        concurrent_requests = 1
        models = ["claude-sonnet-4.6"]
        """,
        KINDS,
    )
    check(document, document)
    assert document.providers == (KINDS["anthropic"],)
    assert document.models[0].targets == (Target("anthropic", "claude-sonnet-4-6"),)
    assert document.plans == (Plan("free", "free", 5000, 1, ("claude-sonnet-4.6",)),)


def test_a_provider_of_the_table_needs_only_its_id_and_any_other_says_what_it_speaks():
    text = '[[provider]]\nid = "mine"\nspeaks = { chat = "http://10.0.0.5:8000/v1/" }\n'
    document = parse(PROVIDER + text, KINDS)
    assert document.providers[0] == KINDS["anthropic"]
    mine = document.providers[1]
    assert (mine.kind, mine.speaks, mine.secret) == ("custom", (("chat", "http://10.0.0.5:8000/v1"),), "")
    second = parse(
        '[[provider]]\nid = "eu"\nkind = "anthropic"\nsecret = "file:/run/key"\n', KINDS
    ).providers[0]
    assert (second.kind, second.auth, second.profile) == (
        "anthropic",
        "x-api-key",
        KINDS["anthropic"].profile,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[model]", "not TOML: Expected ']]' at the end of an array declaration (at line 1, column 8)"),
        ("[[modle]]\nid = 1\n", 'modle: unknown key; did you mean "model"?'),
        ("[model]\nid = 1\n", "model: write [[model]], with two brackets"),
        (PROVIDER + MODEL + "alias = []\n", 'model[0].alias: unknown key; did you mean "aliases"?'),
        (
            MODEL.replace("provider =", "provder ="),
            'model[0].targets[0].provder: unknown key; did you mean "provider"?',
        ),
        (
            MODEL + "capabilities = { visions = true }\n",
            'model[0].capabilities.visions: unknown key; did you mean "vision"?',
        ),
        (MODEL + "xyzzy = 1\n", "model[0].xyzzy: unknown key"),
        ("[[model]]\ntargets = []\n", "model[0]: object missing required field `id`"),
        ('[[model]]\nid = "m"\n', "model[0].targets: required: at least one place where the model is served"),
        (MODEL + 'auto = ["n"]\n', "model[0].auto: a model has targets or chooses among others, not both"),
        ('[[model]]\nid = "m"\nauto = ["m"]\n', "model[0].auto[0]: a model cannot choose itself"),
        (MODEL.replace('"up" }', '"up", weight = -1 }'), "model[0].targets[0].weight: expected `int` >= 0"),
        (
            MODEL.replace('"up" }', '"up", weight = "1" }'),
            "model[0].targets[0].weight: expected `int`, got `str`",
        ),
        (
            PROVIDER + MODEL.replace('"up" }', '"up", via = ["chta"] }'),
            'model[0].targets[0].via: unknown dialect "chta"; did you mean "chat"?',
        ),
        (
            PROVIDER + 'speaks = { mesages = "https://x/v1" }\n',
            'provider[0].speaks: unknown dialect "mesages"; did you mean "messages"?',
        ),
        (PROVIDER + PROVIDER, 'provider[1].id: "anthropic" is already provider[0]'),
        (PROVIDER + MODEL + MODEL, 'model[1].id: "m" is already model[0]'),
        (PLAN + PLAN, 'plan[1].id: "free" is already plan[0]'),
        (
            PLAN.replace("daily_requests = 1", "daily_requests = 0"),
            "plan[0].daily_requests: expected `int` >= 1",
        ),
        (
            PLAN.replace('"free"', '"Free Plan"'),
            "plan[0].id: expected `str` matching regex '^[a-z0-9][a-z0-9._-]{0,63}$'",
        ),
        (
            '[[provider]]\nid = "mine"\n',
            "provider[0].speaks: required: the base URL of each dialect that it speaks",
        ),
        (
            PROVIDER + 'kind = "anthropc"\n',
            'provider[0].kind: unknown kind "anthropc"; did you mean "anthropic"?',
        ),
        (
            PROVIDER + 'speaks = { chat = "ftp://x/v1" }\n',
            "provider[0].speaks.chat: not an http or https URL without query: 'ftp://x/v1'",
        ),
        (
            PROVIDER + "speaks = { chat = 'https://a.\\\\v1' }\n",
            "provider[0].speaks.chat: not an http or https URL without query: 'https://a.\\\\\\\\v1'",
        ),
        (
            PROVIDER + 'speaks = { chat = "https://a!b.example/v1" }\n',
            "provider[0].speaks.chat: not an http or https URL without query: 'https://a!b.example/v1'",
        ),
        (
            PROVIDER + 'speaks = { chat = "https://[fe80::1%eth0]/v1" }\n',
            "provider[0].speaks.chat: not an http or https URL without query: 'https://[fe80::1%eth0]/v1'",
        ),
        (
            PROVIDER + 'speaks = { chat = "https://a..example/v1" }\n',
            "provider[0].speaks.chat: not an http or https URL without query: 'https://a..example/v1'",
        ),
        (
            PROVIDER + 'secret = "sk-ant-123"\n',
            'provider[0].secret: write "env:NAME" or "file:PATH" ("" for none), never the key itself',
        ),
        # what refers to nothing
        (PLAN, 'plan[0].models[0]: unknown model "m"'),
        (PROVIDER + MODEL + PLAN.replace('["m"]', '["m", "m"]'), 'plan[0].models[1]: "m" is said twice'),
        (
            PROVIDER + MODEL.replace('"anthropic"', '"antropic"'),
            'model[0].targets[0].provider: unknown provider "antropic"; did you mean "anthropic"?',
        ),
        (
            PROVIDER + MODEL.replace('"up" }', '"up", via = ["chat"] }'),
            'model[0].targets[0].via: "anthropic" does not speak chat',
        ),
        (
            PROVIDER + MODEL + 'aliases = ["x"]\n' + MODEL.replace('"m"', '"n"') + 'aliases = ["x"]\n',
            'model[0].aliases[0]: "x" is already an alias of "n"',
        ),
        (
            PROVIDER + MODEL + 'aliases = ["n"]\n' + MODEL.replace('"m"', '"n"'),
            'model[0].aliases[0]: "n" is the id of another model',
        ),
        (PROVIDER + MODEL + 'aliases = ["a", "a"]\n', 'model[0].aliases[1]: "a" is said twice'),
        (PROVIDER + MODEL + '[[model]]\nid = "n"\nauto = ["o"]\n', 'model[1].auto[0]: unknown model "o"'),
    ],
)
def test_a_mistake_is_named_by_its_place(text: str, expected: str):
    assert problems(text)[0] == expected


def test_all_mistakes_are_told_at_once():
    text = (
        '[[plan]]\nid = "a"\n[[plan]]\nid = "b"\ndaily_requests = "x"\nconcurrent_requests = 1\nmodels = []\n'
    )
    assert len(problems(text)) == 2


def test_a_refused_secret_is_not_repeated():
    assert "sk-ant" not in "\n".join(problems(PROVIDER + 'secret = "sk-ant-123"\n'))


# ---- habits


def test_habits_of_a_provider_are_changed_for_all_its_models():
    document = parse(
        '[[provider]]\nid = "openai"\n[provider.profile]\nreasoning_effort = false\nmax_stop = 9', KINDS
    )
    (row,) = document.providers
    assert row.habits == (("reasoning_effort", False), ("max_stop", 9))
    for model in ("gpt-5.6", "gpt-4o"):
        was, now = KINDS["openai"].profile_of(model), row.profile_of(model)
        assert now == replace(was, max_stop=9, reasoning_effort=False)
    assert "profile = { reasoning_effort = false, max_stop = 9 }" in dump(document)
    assert parse(dump(document), KINDS) == document


@pytest.mark.parametrize(
    ("habit", "expected"),
    [
        ("max_stops = 9", 'provider[0].profile.max_stops: unknown key; did you mean "max_stop"?'),
        ('max_stop = "9"', "provider[0].profile.max_stop: expected `int | null`, got `str`"),
        ('reasoning_field = "x"', "provider[0].profile.reasoning_field: invalid enum value 'x'"),
    ],
)
def test_a_mistake_in_a_habit_is_named_by_its_place(habit: str, expected: str):
    with pytest.raises(CatalogError) as caught:
        parse(f'[[provider]]\nid = "openai"\nprofile = {{ {habit} }}', KINDS)
    assert caught.value.problems == (expected,)


# ---- writing

TEXT = st.text(min_size=1, max_size=12).filter(lambda s: s.isprintable() or "\n" in s)
IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
CAPABILITIES = st.builds(
    Capabilities,
    vision=st.booleans(),
    documents=st.booleans(),
    tools=st.booleans(),
    thinking=st.sampled_from(["none", "budget", "adaptive"]),
    structured_output=st.booleans(),
)
TARGETS = st.builds(
    Target,
    provider=IDS,
    model=TEXT,
    priority=st.integers(0, 9),
    weight=st.integers(0, 9),
    via=st.lists(st.sampled_from(["chat", "messages"]), unique=True).map(tuple),
    lacks=st.lists(st.sampled_from(["images", "tools"]), unique=True).map(tuple),
)
MODELS = st.builds(
    Model,
    id=IDS,
    name=TEXT,
    aliases=st.lists(TEXT, unique=True, max_size=3).map(tuple),
    targets=st.lists(TARGETS, min_size=1, max_size=3).map(tuple),
    max_output_tokens=st.none() | st.integers(1, 10**6),
    context_tokens=st.none() | st.integers(1, 10**6),
    capabilities=CAPABILITIES,
)
PLANS = st.builds(
    Plan,
    id=IDS,
    name=TEXT,
    daily_requests=st.integers(1, 10**9),
    concurrent_requests=st.integers(1, 1000),
    models=st.lists(IDS, unique=True, max_size=4).map(tuple),
    queue_seconds=st.integers(0, 600),
)
DOCUMENTS = st.builds(
    CatalogDocument,
    providers=st.lists(
        st.builds(
            with_profile_values,
            st.sampled_from(list(KINDS.values())).filter(lambda k: k.speaks),
            st.fixed_dictionaries(
                {},
                optional={
                    "max_stop": st.integers(1, 9),
                    "prefill": st.sampled_from(["none", "prefix"]),
                    "top_k": st.booleans(),
                },
            ),
        ),
        unique_by=lambda p: p.id,
    ).map(tuple),
    models=st.lists(MODELS, unique_by=lambda m: m.id, max_size=4).map(tuple),
    plans=st.lists(PLANS, unique_by=lambda p: p.id, max_size=3).map(tuple),
)


@given(DOCUMENTS)
def test_what_is_written_reads_back_the_same(document: CatalogDocument):
    assert parse(dump(document), KINDS) == document


def test_control_characters_are_escaped_as_toml_wants_them():
    document = CatalogDocument(plans=(Plan("p", 'a"\\\x7f\x01\U0001f600', 1, 1, ()),))
    assert tomllib.loads(dump(document))["plan"][0]["name"] == document.plans[0].name


def test_the_default_catalogue_survives_being_written():
    document = parse(default_catalog(), KINDS)
    assert parse(dump(document), KINDS) == document


def test_a_simulator_of_another_name_is_the_built_in_one():
    text = '[[provider]]\nid = "drill"\nkind = "simulator"\n'
    (row,) = parse(text, KINDS).providers
    assert row.speaks == ()
    made = Catalog(
        providers=(row,),
        models=(),
        plans=(),
        available=lambda _: True,
        simulator=replace(KINDS["simulator"], speaks=(("chat", "http://127.0.0.1:4/v1"),)),
    )
    assert made.upstreams["drill"].url("chat") == "http://127.0.0.1:4/v1"


# ---- kinds

SPEAKER = '[[provider]]\nid = "openai"\n'
EMBEDDER = (
    '[[model]]\nid = "e"\nkind = "embedding"\n'
    'targets = [{ provider = "openai", model = "text-embedding-3-small" }]\n'
)


def test_a_model_has_a_kind_and_most_are_for_chat():
    document = read(PROVIDER + SPEAKER + MODEL + EMBEDDER)
    assert [model.kind for model in document.models] == ["chat", "embedding"]
    text = dump(document)
    assert text.count("kind = ") == 3  # of the two providers and of the model that is not for chat
    assert read(text) == document


def test_a_kind_that_nobody_knows_is_named_by_its_place():
    (problem,) = problems(SPEAKER + EMBEDDER.replace('"embedding"', '"vectors"'))
    assert problem.startswith('model[0].kind: unknown kind "vectors"; write one of "chat", "embedding", ')


def test_a_provider_that_has_embeddings_says_so():
    document = parse('[[provider]]\nid = "own"\nspeaks = { embeddings = "http://10.0.0.5/v1/" }\n', KINDS)
    assert document.providers[0].speaks == (("embeddings", "http://10.0.0.5/v1"),)
    (problem,) = problems(PROVIDER + EMBEDDER.replace("openai", "anthropic"))
    assert problem.startswith('model[0].targets[0].provider: "anthropic" does not speak embeddings')
    own = '[[provider]]\nid = "anthropic"\nspeaks = { embeddings = "https://e.example/v1" }\n'
    (problem,) = problems(own + MODEL)
    assert problem.startswith(
        'model[0].targets[0].provider: "anthropic" does not speak chat or messages or responses'
    )
    via = EMBEDDER.replace('small"', 'small", via = ["chat"]')
    assert problems(SPEAKER + via) == ("model[0].targets[0].via: embedding models are not called in chat",)


def embedder(*names: str) -> str:
    targets = ", ".join(f'{{ provider = "openai", model = "{name}" }}' for name in names)
    return f'{SPEAKER}[[model]]\nid = "e"\nkind = "embedding"\ntargets = [{targets}]\n'


def test_the_targets_of_an_embedding_model_are_one_model():
    assert len(read(embedder("Text-1", "openai/text-1", "a/b/TEXT-1")).models[0].targets) == 3
    (problem,) = problems(embedder("text-1", "openai/text-1", "openai/text-2"))
    assert problem.startswith('model[0].targets[2].model: "openai/text-2" is another model than "text-1"')
    assert "vectors of different models do not mix" in problem


def test_nothing_chooses_among_embedding_models():
    chooser = '[[model]]\nid = "any"\nkind = "embedding"\nauto = ["e"]\n'
    assert problems(SPEAKER + EMBEDDER + chooser)[0] == (
        "model[1].auto: an embedding model cannot choose among others: vectors of different models do not mix"
    )
    chooser = '[[model]]\nid = "any"\nauto = ["m", "e"]\n'
    assert problems(PROVIDER + SPEAKER + MODEL + EMBEDDER + chooser) == (
        'model[2].auto[1]: "e" is an embedding model',
    )


# ---- how a provider is reached

REACHED = """
[[provider]]
id = "far"
speaks = { chat = "https://far.example/v1" }
proxy = "http://proxy.example:3128"
proxy_secret = "env:PROXY_USER"
no_proxy = ["inner.example", "10.0.0.0"]
ca = "file:/etc/ca.pem"
client_cert = "file:/etc/cert.pem"
client_key = "file:/etc/key.pem"
query = { api-version = "2024-10-21" }
profile = { tool_images = true }
"""


def test_how_a_provider_is_reached_reads_back_as_it_was_written():
    document = parse(REACHED, KINDS)
    reach = document.providers[0].reach
    assert (reach.proxy, reach.no_proxy) == ("http://proxy.example:3128", ("inner.example", "10.0.0.0"))
    assert reach.query == (("api-version", "2024-10-21"),)
    assert parse(dump(document), KINDS) == document
    row = document.providers[0]
    assert parted({**dict(row.habits), **kept(row)}) == ({"tool_images": True}, reach, NO_SIGN_IN)
    assert kept(replace(row, reach=STRAIGHT)) == {}
    assert not {KEPT_AS, SIGN_IN} & set(Profile.__struct_fields__)


SIGNED = [
    'auth = "bedrock"\nsign_in = { region = "us-east-1" }',
    'auth = "google"\nsign_in = { account = "file:/sa.json", scope = "s" }',
    'auth = "google"',
    'auth = "entra"\nsecret = "env:CLIENT_SECRET"\nsign_in = { tenant = "t", client = "c" }',
]


@pytest.mark.parametrize("fields", SIGNED)
def test_ways_to_sign_in_by_tokens_read_back_as_they_were_written(fields: str):
    document = parse(
        f'[[provider]]\nid = "far"\nspeaks = {{ chat = "https://far.example/v1" }}\n{fields}\n', KINDS
    )
    assert parse(dump(document), KINDS) == document
    row = document.providers[0]
    assert parted(kept(row))[2] == row.sign_in


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ('proxy = "https://p:1"', "without TLS"),
        ('proxy = "http://u:p@p:1"', "write proxy_secret"),
        ('proxy = "http://p:1/x"', "has no path"),
        ('proxy = "p"', 'write "http://host:port"'),
        ('proxy_secret = "env:X"', "no proxy of this provider's own"),
        ('proxy = "http://p:1"\nproxy_secret = "ann:secret"', "never these themselves"),
        ('no_proxy = ["x"]', "no proxy to go without"),
        ('proxy = "env"\nno_proxy = ["a b"]', "is no host"),
        ('ca = "/etc/ca.pem"', 'ca: write "file:PATH"'),
        ('client_key = "file:/k"', "without its client_cert"),
        ('query = { a = "b c" }', "can stand in a query"),
        ('proxi = "env"', 'did you mean "proxy"'),
        ('auth = "bedrock"', "sign_in.region: required"),
        ('auth = "entra"\nsign_in = { tenant = "t", client = "c" }', "the client's secret"),
        ('auth = "google"\nsecret = "env:X"', "takes none"),
        ('auth = "google"\nsign_in = { account = "/sa.json" }', 'write "file:PATH"'),
        ('sign_in = { region = "us-east-1" }', "needs nothing of this"),
    ],
)
def test_what_is_wrong_with_a_way_is_said_by_its_place(fields: str, said: str):
    (problem,) = problems(
        f'[[provider]]\nid = "far"\nspeaks = {{ chat = "https://far.example/v1" }}\n{fields}\n'
    )
    assert problem.startswith("provider[0]")
    assert said in problem


# ---- pools of credentials

POOL = (
    PROVIDER
    + "credentials = [\n"
    + '  { id = "a", secret = "env:KEY_A", weight = 3 },\n'
    + '  { id = "b", secret = "file:/run/secrets/b", group = "org2" },\n'
    + "]\n"
)


def test_a_pool_of_credentials_reads_and_reads_back():
    document = read(POOL)
    row = document.providers[0]
    assert row.credentials == (
        Credential("a", "env:KEY_A", 3),
        Credential("b", "file:/run/secrets/b", group="org2"),
    )
    assert (row.secret, row.secrets) == ("", ("env:KEY_A", "file:/run/secrets/b"))
    assert read(dump(document)) == document


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('secret = "env:X"\ncredentials = [{ id = "a", secret = "env:A" }]', "not both"),
        ('credentials = [{ id = "a", secret = "sk-live" }]', 'credentials[0].secret: write "env:NAME"'),
        ('credentials = [{ id = "a", secret = "" }]', 'credentials[0].secret: write "env:NAME"'),
        (
            'credentials = [{ id = "a", secret = "env:A" }, { id = "a", secret = "env:B" }]',
            'credentials[1].id: "a" is said twice',
        ),
        ('credentials = [{ id = "a", secret = "env:A", wieght = 2 }]', 'did you mean "weight"?'),
        ('credentials = [{ id = "A b", secret = "env:A" }]', "credentials[0].id"),
    ],
)
def test_what_is_wrong_in_a_pool_is_named(line: str, problem: str):
    assert any(problem in found for found in problems(PROVIDER + line + "\n"))
