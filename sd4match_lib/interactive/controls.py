"""The point picker's controls: prompt, category, timestep, matcher, extractor and profile."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ipywidgets

from sd4match_lib.config.names import MATCHERS, Extractor
from sd4match_lib.config.profile import profile_names
from sd4match_lib.data.categories import DEFAULT_CATEGORY
from sd4match_lib.errors import UserError
from sd4match_lib.matcher.matcher import Matcher
from sd4match_lib.matcher.settings import MatcherSettings, PromptLike
from sd4match_lib.prompts.prompt_file import describe_prompt_file

_NOT_OFFERED = "smoke"  # the same models as mini

Switch = Callable[[dict[str, Any]], MatcherSettings | None]


class PickerControls:
    """Controls that say what to match with; one that cannot be had jumps back.

    Attributes:
        box: all of them, to be shown.
        prompt, extractor, matcher, profile: dropdowns.
        category, timestep: a text field and a slider.
    """

    def __init__(
        self,
        matcher: Matcher,
        prompts: Sequence[str | Path],
        prompt: PromptLike | None,
        switch: Switch,
    ) -> None:
        """Make the controls.

        Args:
            matcher: what they show at first.
            prompts: names, or files of learned prompts.
            prompt: which of them the matcher has; None asks the matcher.
            switch: called with the changed settings, by `Matcher.with_settings`'s names or "profile"; returns
                all settings as they are then, or None where it could not be done.
        """
        self._switch = switch
        self._jumping = False
        settings = matcher.settings
        choices: dict[str, Any] = {}
        for entry in prompts:
            name = _label(entry)
            # Two trainings that only their options tell apart go by their runs.
            choices[f"{name}, {Path(str(entry)).parent.name}" if name in choices else name] = str(entry)
        own = _label(prompt) if isinstance(prompt, str | Path) else settings.prompt_kind
        first = choices.setdefault(own, settings.prompt)
        style = {"description_width": "60px"}

        def look(name: str, width: int) -> dict[str, Any]:
            return {
                "description": name,
                "layout": ipywidgets.Layout(width=f"{width}px"),
                "style": style,
            }

        self.prompt = ipywidgets.Dropdown(options=list(choices.items()), value=first, **look("prompt", 230))
        self.category = ipywidgets.Text(
            value="" if settings.category == DEFAULT_CATEGORY else settings.category,
            placeholder=DEFAULT_CATEGORY,
            continuous_update=False,
            **look("category", 190),
        )
        step = settings.method.timestep or 0
        self.timestep = ipywidgets.IntSlider(
            value=step, min=0, max=999, continuous_update=False, **look("timestep", 280)
        )
        self.matcher = ipywidgets.Dropdown(
            options=list(MATCHERS), value=settings.method.matcher, **look("matcher", 230)
        )
        methods = [str(name) for name in Extractor]
        self.extractor = ipywidgets.Dropdown(
            options=methods, value=str(settings.method.extractor), **look("extractor", 230)
        )
        names = [name for name in profile_names() if name != _NOT_OFFERED]
        names += [matcher.profile.name] if matcher.profile.name not in names else []
        self.profile = ipywidgets.Dropdown(options=names, value=matcher.profile.name, **look("profile", 190))
        named = {"prompt": self.prompt, "category": self.category, "timestep": self.timestep}
        named |= {"matcher": self.matcher, "extractor": self.extractor, "profile": self.profile}
        for name, widget in named.items():
            widget.observe(self._listener(name, widget), "value")
        self.box = ipywidgets.Box(list(named.values()), layout=ipywidgets.Layout(flex_flow="row wrap"))

    def _listener(self, name: str, widget: Any) -> Callable[[Any], None]:
        def changed(event: Any) -> None:
            if self._jumping:
                return
            settings = {name: event["new"]}
            if name == "category":
                settings[name] = event["new"].strip() or DEFAULT_CATEGORY
            if name == "profile":
                # The other model is asked as this one was, as far as the controls say how.
                settings |= {"extractor": self.extractor.value, "matcher": self.matcher.value}
            if name in ("profile", "extractor") and Extractor(self.extractor.value).prompted:
                settings["prompt"] = self.prompt.value
            if name == "profile" and Extractor(self.extractor.value).prompted:
                settings["timestep"] = self.timestep.value
            now = self._switch(settings)
            self._jumping = True
            if now is None:
                widget.value = event["old"]
            else:
                # Another extractor brings a matcher and a timestep of its own.
                self.matcher.value = now.method.matcher
                self.timestep.value = now.method.timestep or 0
                self.timestep.disabled = self.prompt.disabled = not now.method.extractor.prompted
            self._jumping = False

        return changed


def _label(prompt: Any) -> str:
    """A name as it is, a file by what it holds, or by its name and folder where it cannot be read."""
    path = Path(str(prompt))
    if path.suffix != ".safetensors":
        return str(prompt)
    try:
        return describe_prompt_file(path)
    except UserError:
        return str(Path(path.parent.name, path.name))
