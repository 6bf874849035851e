"""How a text begins: what repeats the words that were given for its beginning is taken away."""

_LOOSE = " \t\r\n*_#\"“”'"  # that models put around what they repeat
_BEHIND = " \t\r\n*_:：-–—"  # that separates it from what is new


class Opening:
    """Text whose beginning is held back until it is clear whether it repeats the ``lead``."""

    def __init__(self, lead: str) -> None:
        self._lead = lead.rstrip(":：")
        self._gap = "" if lead.endswith("：") else " "
        self._held = ""
        self._is_open = True

    def add(self, text: str) -> str:
        """Add text, and get what is certain to be shown."""
        if not self._is_open:
            return text
        self._held += text
        rest = self._behind_lead()
        return self._begun(rest) if rest else ""

    def end(self) -> str:
        """Nothing more comes."""
        if not self._is_open:
            return ""
        rest = self._behind_lead()
        return self._begun(rest) if rest else ""

    def _begun(self, text: str) -> str:
        self._is_open = False
        return self._gap + text

    def _behind_lead(self) -> str | None:
        """What is new in the held text; None while it may all be repetition."""
        at = 0
        for expected in self._lead:
            if expected in _LOOSE:
                continue
            while at < len(self._held) and self._held[at] in _LOOSE:
                at += 1
            if at == len(self._held):
                return None
            if self._held[at].casefold() != expected.casefold():
                return self._held.lstrip()
            at += 1
        rest = self._held[at:]
        if self._lead[-1:].isalnum() and rest[:1].isalnum():
            return self._held.lstrip()  # another word that begins alike
        return rest.lstrip(_BEHIND) or None
