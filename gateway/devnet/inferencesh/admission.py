"""From the body of a run to a task: what is checked, and in which order it is refused."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.devnet.inferencesh.account import Account
from gateway.devnet.inferencesh.apps import Catalogue, Entry, select_function
from gateway.devnet.inferencesh.clock import parse_time
from gateway.devnet.inferencesh.envelopes import Problem, RequirementsNotMet
from gateway.devnet.inferencesh.sessions import MAX_IDLE_SECONDS, SessionStore
from gateway.devnet.inferencesh.tasks import RunRequest, TaskRecord, TaskStore
from gateway.types import JSON

INFRA = ("cloud", "private", "private_first", "remote")


@dataclass(frozen=True, slots=True)
class Admission:
    """Decides about runs."""

    account: Account
    catalogue: Catalogue
    sessions: SessionStore
    tasks: TaskStore

    def admit(self, body: dict[str, JSON]) -> TaskRecord:
        """Make a task of an ApiAppRunRequest, or raise Problem 400, 402, 404, 409, 410, 412 or 503."""
        request = parse_run_request(body)
        entry = self._find(body)
        _check_status(entry)
        entry.function.check(body.get("input"))
        self._check_requirements(entry)
        if entry.app.admitted and self.account.balance_microcents < entry.app.pricing.least:
            meta = {"balance": self.account.balance_microcents, "required": entry.app.pricing.least}
            raise Problem(402, "payment_required", "insufficient balance", meta=meta)
        session = None
        if request.session == "new":
            session = self.sessions.make(entry, request.session_timeout, request.workers)
        elif request.session:
            session = self.sessions.get_for_call(request.session, entry)
        return self.tasks.make(
            entry,
            body.get("input"),
            request,
            session_id=session.id if session else None,
            worker_id=session.worker_id if session else None,
        )

    def _find(self, body: dict[str, JSON]) -> Entry:
        function = _read_text(body, "function")
        if ref := _read_text(body, "app"):
            return select_function(self.catalogue.get_by_ref(ref), function)
        if version_id := _read_text(body, "version_id"):
            return select_function(self.catalogue.get_by_version_id(version_id), function)
        if app_id := _read_text(body, "app_id"):
            app = self.catalogue.get_by_id(app_id)
            return select_function(Entry(app, app.versions[-1], app.default_function), function)
        raise Problem(400, "validation_error", "app is required", meta={"field": "app"})

    def _check_requirements(self, entry: Entry) -> None:
        missing = [key for key in entry.app.required_secrets if key not in self.account.secrets]
        if missing:
            raise RequirementsNotMet([_describe_missing_secret(key) for key in missing])


def parse_run_request(body: dict[str, JSON]) -> RunRequest:
    """Read the options of a run. Raises Problem 400 that names the field."""
    infra = _read_text(body, "infra") or "cloud"
    if infra not in INFRA:
        raise _make_refusal("infra", f"infra has to be one of {', '.join(INFRA)}")
    workers = body.get("workers")
    if workers is not None and not (isinstance(workers, list) and all(isinstance(w, str) for w in workers)):
        raise _make_refusal("workers", "workers has to be a list of ids")
    session = _read_text(body, "session")
    return RunRequest(
        infra=infra,
        workers=workers,
        setup=body.get("setup"),
        webhook=_read_webhook(body),
        session=session,
        session_timeout=_read_session_timeout(body.get("session_timeout"), session),
        run_at=_read_run_at(body),
        metadata=body.get("metadata"),
    )


def _read_session_timeout(value: JSON, session: str | None) -> int | None:
    if value is None:
        return None
    if session != "new":
        raise _make_refusal("session_timeout", 'session_timeout goes only with session "new"')
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_IDLE_SECONDS:
        raise _make_refusal("session_timeout", f"session_timeout has to be from 1 to {MAX_IDLE_SECONDS}")
    return value


def _read_run_at(body: dict[str, JSON]) -> float | None:
    text = _read_text(body, "run_at")
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise _make_refusal("run_at", f'run_at "{text}" is not a time in RFC 3339') from error


def _read_webhook(body: dict[str, JSON]) -> str | None:
    url = _read_text(body, "webhook")
    if url is None:
        return None
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _make_refusal("webhook", f'webhook "{url}" is not a URL') from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _make_refusal("webhook", "webhook has to be an http or https URL")
    return url


def _read_text(body: dict[str, JSON], field: str) -> str | None:
    value = body.get(field)
    if value is not None and not isinstance(value, str):
        raise _make_refusal(field, f"{field} has to be a string")
    return value or None


def _make_refusal(field: str, detail: str) -> Problem:
    return Problem(400, "validation_error", detail, meta={"field": field})


def _check_status(entry: Entry) -> None:
    if entry.app.status == "retired":
        raise Problem(410, "app_retired", f"{entry.app.ref} is retired")
    if entry.app.status == "maintenance":
        detail = f"{entry.app.ref} is being maintained"
        raise Problem(503, "app_maintenance", detail, headers={"Retry-After": "30"})


def _describe_missing_secret(key: str) -> JSON:
    return {
        "type": "secret",
        "key": key,
        "message": f"missing required secret: {key}",
        "action": {"type": "add_secret", "secrets": [key], "instructions": f"Add {key} to your secrets."},
    }
