"""What can be seen from outside: metrics, traces, logs with ids. Nothing of it runs unless configured.

The engine tells an Observer (gateway.observe.observer) what happened; the null one, which does nothing, is
the default. Metrics and traces are observers; logs read the ids of gateway.observe.logs.
"""
