"""The whole idea on real input: a signup by conversation, a user, documents, questions, health."""

from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.rule import Rule
from rich.syntax import Syntax

from ..config import Settings
from ..core.errors import ConfigurationError, InvalidChangeError
from ..db.data_layer import DataLayer
from ..db.repositories.signup_session_repository import SignupSessionRepository
from ..db.repositories.user_repository import UserRepository
from ..db.vector.base import VectorDB
from ..db.vector.ingest import ingest
from .console import console, health_table, print_passage

SESSION = "demo-signup"
EMAIL = "ada@example.com"

QUESTIONS = (
    "How do I start without installing a server?",
    "What happens when two processes write at the same time?",
    "Where do I set the connection of a repository?",
)

CODE = """\
import asyncio
from app.db import DataLayer
from app.db.vector.ingest import ingest
async def main() -> None:
    async with DataLayer.from_config() as data:
        await data.repository("signup_session").create_session("s1", {"current_step": "EMAIL"})
        await data.repository("user").create_user("bo@x.io", "bo_1", "Bo", "Ek", "$2b$12$hash")
        await ingest(data.vector_store("documents"), ["README.md"])
        print(await data.vector_store("documents").search_similar("How do I start?", k=3))
asyncio.run(main())
"""


@dataclass(frozen=True)
class Step:
    """One question of the conversation, and what the person answers: wrong answers first."""

    name: str
    field: str
    question: str
    answers: tuple[str, ...]


CONVERSATION = (
    Step("EMAIL", "email", "What is your e-mail address?", ("ada at example", EMAIL)),
    Step("USERNAME", "username", "Which username would you like?", ("1ada", "ada")),
    Step("PASSWORD", "password", "Choose a password.", ("correct horse battery staple",)),
    Step("FIRSTNAME", "firstname", "Your first name?", ("ada",)),
    Step("LASTNAME", "lastname", "And your last name?", ("lovelace",)),
)


async def demo() -> None:
    """Run it. Everything is kept in `.manystore`, so a second run finds what the first one made."""
    sources = documentation()
    async with DataLayer.from_config(Settings()) as data:
        users = data.repository(UserRepository)
        _title("1  A signup by conversation")
        known = await users.get_user_by_email(EMAIL)
        if known is None:
            await _sign_up(data.repository(SignupSessionRepository), users)
        else:
            console.print(f"{EMAIL} is already a user, from an earlier run: {known.id}, since {known.created_at:%c}")
        _title("2  The same e-mail again")
        again = await users.create_user(EMAIL.upper(), "somebody_else", "Some", "Body", "$2b$12$not-a-real-hash")
        console.print(f"create_user({EMAIL.upper()!r}, …) → {again}: the unique index refused it")
        _title("3  Documents")
        documents = data.vector_store("documents")
        await _read_documentation(documents, sources)
        _title("4  Questions")
        for question in QUESTIONS:
            await _ask(documents, question)
        _title("5  Health")
        console.print(health_table(await data.health()))
    _title("6  The same in your application")
    console.print(Syntax(CODE.rstrip(), "python", background_color="default"), soft_wrap=True)


def documentation() -> list[Path]:
    """The README and docs of this checkout, or of the working directory."""
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        found = [path for path in (root / "README.md", root / "docs") if path.exists()]
        if found:
            return found
    raise ConfigurationError("the demo reads README.md and docs: run it where they are, such as in a checkout")


async def _sign_up(sessions: SignupSessionRepository, users: UserRepository) -> None:
    if not await sessions.create_session(SESSION, {"current_step": CONVERSATION[0].name}):
        console.print("an interrupted signup was found and is begun anew")
        await sessions.delete_session(SESSION)
        await sessions.create_session(SESSION, {"current_step": CONVERSATION[0].name})
    for step in CONVERSATION:
        for answer in step.answers:
            await _answer(sessions, users, step, answer)
    session = await sessions.get_session(SESSION) or {}
    names = ("email", "username", "firstname", "lastname", "password_hash")
    user = await users.create_user(**{name: session[name] for name in names})
    if user is None:
        raise ConfigurationError("another process signed the demo's user up at the same time: run it again")
    await sessions.delete_session(SESSION)
    wrong = [each for each in session["validations"] if not each["ok"]]
    console.print(
        f"created [bold]{escape(user.username)}[/], {user.id}, after {session['attempt_count']} answers, "
        f"{len(wrong)} of them refused; the session is gone, and the password was only kept as an argon2 hash"
    )


async def _answer(sessions: SignupSessionRepository, users: UserRepository, step: Step, answer: str) -> None:
    shown = "•" * len(answer) if step.field == "password" else answer
    console.print(f"[dim]{step.name:<9}[/] {step.question}  [bold]{escape(shown)}[/]")
    await sessions.increment_attempt(SESSION)
    try:
        value = answer if step.field == "password" else users.schema.changes({step.field: answer})[step.field]
    except InvalidChangeError as error:
        reason = str(error).rpartition("Value error, ")[2]
        await sessions.record_validation(SESSION, step.field, ok=False, message=reason)
        console.print(f"          [yellow]{escape(reason)}[/]")
        return
    await sessions.record_validation(SESSION, step.field, ok=True)
    await sessions.update_session(SESSION, {step.field: value, "current_step": step.name})


async def _read_documentation(store: VectorDB, sources: list[Path]) -> None:
    report = await ingest(store, sources)
    if report.added or report.updated:
        console.print(f"read {report.added + report.updated} files into {report.chunks} passages")
    if report.unchanged:
        console.print(f"{report.unchanged} files were already there, unchanged, and were not read again")


async def _ask(store: VectorDB, question: str) -> None:
    console.print(f"[bold]{question}[/]")
    for document, score in await store.search_with_scores(question, k=2):
        print_passage(document, score, width=160)


def _title(text: str) -> None:
    console.print()
    console.print(Rule(f"[bold]{text}[/]", align="left"))
