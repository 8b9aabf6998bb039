"""Three ways to use a page in a real browser: by mouse, by keyboard alone, and by touch on a phone.

A way does what a person could do and no more: by keyboard nothing is focused or clicked by the program, only keys are pressed.
What a person would stumble over on the way is noted in ``faults``: focus that cannot be seen or lies under something, places
that no key leads to or away from, targets too small for a finger.
"""

from abc import ABC, abstractmethod
from typing import Any, Final, TypeVar

from playwright.async_api import Browser, ElementHandle, Locator, Page

MOST_TABS: Final = 300
"""More than any page of an account needs from its top to its end."""
SMALLEST: Final = 24
"""Pixels that a target for a finger has at least, either way."""

STANDS: Final = """(target) => {
  const here = document.activeElement ?? document.body;
  globalThis.unreached?.delete(here);
  const words = (it) => it.ariaLabel || it.labels?.[0]?.textContent || it.name || it.textContent;
  const said = (it) => `${it.tagName.toLowerCase()} "${words(it).trim().slice(0, 40)}"`;
  const faults = [];
  if (here !== document.body) {
    const label = here.labels?.[0];
    const shown = label && getComputedStyle(here).opacity === "0" ? label : here;
    const lined = (it, is = it && getComputedStyle(it)) => is && is.outlineStyle !== "none" && parseFloat(is.outlineWidth) > 0;
    if (!lined(here) && !lined(label)) faults.push(`no outline on ${said(here)}`);
    const box = shown.getClientRects()[0] ?? { left: 0, top: 0, right: 0, bottom: 0, width: 0, height: 0 };
    const [left, right] = [Math.max(box.left, 0), Math.min(box.right, document.documentElement.clientWidth)];
    const [top, bottom] = [Math.max(box.top, 0), Math.min(box.bottom, innerHeight)];
    if (box.width < 4 || box.height < 4) faults.push(`no place on the page has ${said(here)}`);
    else if (right - left < 4 || bottom - top < 4) faults.push(`outside of the window is ${said(here)}`);
    else if (box.width < innerWidth && right - left < box.width - 1) faults.push(`half outside of the window is ${said(here)}`);
    else {
      const over = document.elementFromPoint((left + right) / 2, (top + bottom) / 2);
      const seen = over && (shown.contains(over) || over.contains(shown));
      if (!seen) faults.push(`${said(here)} lies under ${over ? said(over) : "nothing"}`);
    }
  }
  const order = here.compareDocumentPosition(target);
  const main = document.querySelector("main");
  return {
    faults, body: here === document.body,
    where: here === target ? "here" : order & Node.DOCUMENT_POSITION_PRECEDING ? "before" : "after",
    skips: here.matches(".skip") && main.contains(target),
  };
}"""
"""Where the focus is, seen from a target, and what is wrong with the place that it has. Of those not yet reached it is none."""

PLACES: Final = """() => [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
  .filter((it) => it.checkVisibility({ visibilityProperty: true }) && !it.disabled && it.type !== "hidden")
  .filter((it) => it.type !== "radio" || it.checked)"""
"""All that one can do something with; of several to choose from the chosen one, since arrows lead to the others."""

MARKED: Final = """(it) => ["radio", "checkbox"].includes(it.type) ? it.checked : it.selectedOptions?.[0]?.textContent.trim()"""
"""Whether it is marked, or what is chosen."""


class Way(ABC):
    """One person's way with a page."""

    width: int

    def __init__(self, page: Page) -> None:
        self.page = page
        self.faults: list[str] = []

    def note(self, text: str) -> None:
        """Something to stumble over, each once."""
        line = f"{self.page.url.partition('//')[2].partition('/')[2].partition('?')[0]}: {text}"
        if line not in self.faults:
            self.faults.append(line)

    @abstractmethod
    async def press(self, what: Locator) -> None:
        """A link, a button, a summary."""

    @abstractmethod
    async def write(self, where: Locator, text: str) -> None:
        """Into a field, in place of what is there."""

    @abstractmethod
    async def choose(self, where: Locator, option: str) -> None:
        """The option of a list that has this text."""

    @abstractmethod
    async def mark(self, what: Locator) -> None:
        """A box to tick, or one of several to choose."""


class _Pointer(Way):
    """What mouse and finger have in common. A list of options is drawn outside of the page: the browser is told which one."""

    async def write(self, where: Locator, text: str) -> None:
        await self.press(where)
        await self.page.keyboard.press("Control+a")
        await self.page.keyboard.type(text)

    async def choose(self, where: Locator, option: str) -> None:
        await where.select_option(label=option)

    async def mark(self, what: Locator) -> None:
        await self.press(what.locator("xpath=ancestor-or-self::label[1]"))


class Mouse(_Pointer):
    """A mouse, and a wide window."""

    width = 1280

    async def press(self, what: Locator) -> None:
        await what.click()


class Finger(_Pointer):
    """A finger, and a phone."""

    width = 390

    async def press(self, what: Locator) -> None:
        box = await what.bounding_box()
        wide = await what.evaluate(
            "(it) => it.matches('button, .button, summary, select, input, textarea, label')"
        )
        if box and wide and min(box["width"], box["height"]) < SMALLEST:
            self.note(
                f"{box['width']:.0f} by {box['height']:.0f} pixels are few for {await what.inner_text()!r}"
            )
        await what.tap()


class Keyboard(Way):
    """Tab and Shift+Tab, Enter, Space and arrows: nothing else moves the focus."""

    width = 1280

    async def press(self, what: Locator) -> None:
        await self._reach(what)
        await self.page.keyboard.press("Enter")

    async def write(self, where: Locator, text: str) -> None:
        await self._reach(where)
        await self.page.keyboard.press("Control+a")
        await self.page.keyboard.type(text)

    async def choose(self, where: Locator, option: str) -> None:
        options: list[str] = await where.evaluate(
            "(it) => [...it.options].map((one) => one.textContent.trim())"
        )
        await self._reach(where)
        place, now = options.index(option), options.index(await where.evaluate(MARKED))
        for _ in range(abs(place - now)):
            await self.page.keyboard.press("ArrowDown" if place > now else "ArrowUp")
        assert await where.evaluate(MARKED) == option

    async def mark(self, what: Locator) -> None:
        if await what.get_attribute("type") == "checkbox":
            await self._reach(what)
            await self.page.keyboard.press("Space")
            return
        # of several to choose from Tab leads to the chosen one, and arrows from there to the others
        name = await what.get_attribute("name")
        await self._reach(self.page.locator(f"input[name='{name}']:checked"))
        for _ in range(await self.page.locator(f"input[name='{name}']").count()):
            if await what.evaluate(MARKED):
                return
            await self.page.keyboard.press("ArrowRight")
        raise AssertionError(f"no arrow leads to {await what.get_attribute('value')}")

    async def _reach(self, what: Locator) -> None:
        await what.wait_for()
        target = await what.element_handle()
        passed = 0
        for _ in range(MOST_TABS):
            stands = await self._stands(target)
            if stands["where"] == "here":
                return
            passed += stands["body"]
            if stands["skips"]:
                await self.page.keyboard.press("Enter")
                await self.page.keyboard.press("Tab")
            else:
                await self.page.keyboard.press("Shift+Tab" if stands["where"] == "before" else "Tab")
            if passed > 2:
                break
        raise AssertionError(
            f"{self.page.url}: no key leads to {await target.evaluate('(it) => it.outerHTML.slice(0, 200)')}"
        )

    async def all_places(self) -> None:
        """From the top of the page to its end by Tab: each place is come to, and is seen when it has the focus."""
        body = await self.page.query_selector("body")
        assert body is not None
        await self.page.evaluate(f"globalThis.unreached = new Set(({PLACES})())")
        for _ in range(MOST_TABS):
            await self.page.keyboard.press("Tab")
            stands = await self._stands(body)
            if stands["body"]:
                break
        else:
            self.note("no end is reached by Tab")
        for text in await self.page.evaluate("[...unreached].map((it) => it.outerHTML.slice(0, 200))"):
            self.note(f"Tab does not lead to {text}")

    async def _stands(self, target: ElementHandle) -> dict[str, Any]:
        stands: dict[str, Any] = await target.evaluate(STANDS)
        for fault in stands["faults"]:
            self.note(fault)
        return stands


OneWay = TypeVar("OneWay", bound=Way)
WAYS: Final[tuple[type[Way], ...]] = (Mouse, Keyboard, Finger)


async def opened(way: type[OneWay], browser: Browser) -> OneWay:
    """A new person with a browser of their own."""
    touch = way is Finger
    context = await browser.new_context(
        viewport={"width": way.width, "height": 800},
        has_touch=touch,
        is_mobile=touch,
        timezone_id="America/Los_Angeles",
    )
    return way(await context.new_page())
