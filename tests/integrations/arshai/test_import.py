"""The framework takes the process's logging over as it is imported; other tests must not notice."""

from __future__ import annotations

import logging

from tests.integrations.arshai.framework import Framework


def test_no_logger_has_a_handler_of_the_framework(framework: Framework) -> None:
    """Neither the root logger nor any other, though the import replaces the handlers of them all."""
    assert framework.agent.__module__ == "arshai.agents.hub.working_memory"
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    handlers = [handler for logger in loggers for handler in getattr(logger, "handlers", ())]
    assert [handler for handler in handlers if type(handler).__module__.startswith("arshai")] == []
    assert logging.getLogger().level == logging.WARNING
