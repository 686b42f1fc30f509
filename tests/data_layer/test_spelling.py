"""One tree under any name: `app` when installed, `src.app` from a checkout, or copied into an application."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# The specification's samples, with `await` where methods are async.
SAMPLES = """
import asyncio, uuid
from datetime import datetime, timezone
from {package}.db.repositories.user_repository import UserRepository
from {package}.db.repositories.signup_session_repository import SignupSessionRepository
from {package}.db.models.user import User, UserInDB
from {package}.db.vector.providers.db_provider import VectorStoreFactory
from {package}.db.vector.embeddings.embedding import EmbeddingFactory
from {package}.core.constants import VectorDBType, EmbeddingType
from langchain_core.documents import Document


async def main():
    repo = UserRepository()
    user = await repo.create_user(
        email="john@example.com", username="johndoe", firstname="John", lastname="Doe", password_hash="$2b$12$hash"
    )
    assert (await repo.get_user_by_email("john@example.com")) == user
    assert (await repo.get_user_by_username("johndoe")) == user
    assert (await repo.get_user_by_id(user._id)) == user
    assert await repo.get_user_by_id("507f1f77bcf86cd799439011") is None
    assert (await repo.update_user(user_id=user._id, update_data={{"firstname": "Jonathan"}})).firstname == "Jonathan"
    assert await repo.check_email_exists("john@example.com")
    assert await repo.check_username_exists("johndoe")

    user = UserInDB(
        _id="507f1f77bcf86cd799439011", email="john@example.com", username="johndoe", firstname="John", lastname="Doe",
        password_hash="$2b$12$hash", created_at=datetime.now(timezone.utc).replace(tzinfo=None),
        updated_at=datetime.now(timezone.utc).replace(tzinfo=None), is_active=True,
    )
    assert "password_hash" not in user.to_dict() and "password_hash" not in user.to_safe_dict()
    assert "hash" not in user.to_json()

    repo = SignupSessionRepository()
    session_id = str(uuid.uuid4())
    await repo.create_session(session_id=session_id, initial_data={{"current_step": "EMAIL"}})
    await repo.update_session(
        session_id=session_id, update_data={{"email": "john@example.com", "current_step": "USERNAME"}}
    )
    await repo.update_field(session_id=session_id, field="username", value="johndoe")
    await repo.increment_attempt(session_id)
    session_data = await repo.get_session(session_id)
    assert session_data["username"] == "johndoe" and session_data["attempt_count"] == 1
    assert await repo.session_exists(session_id)
    await repo.delete_session(session_id)
    assert not await repo.session_exists(session_id)

    vector_store = VectorStoreFactory.get_vector_store(VectorDBType.QDRANT)
    await vector_store._create_connection()
    docs = [
        Document(page_content="Document 1", metadata={{"source": "doc1.pdf"}}),
        Document(page_content="Document 2", metadata={{"source": "doc2.pdf"}}),
    ]
    doc_ids = await vector_store.save_and_embed(embedding_type=EmbeddingType.WORDLLAMA, docs=docs)
    results = await vector_store.search_similar(
        query="search query", k=5, filter_criteria={{"source": "doc1.pdf"}}
    )
    assert [each.page_content for each in results] == ["Document 1"]
    retriever = vector_store.as_retriever(search_kwargs={{"k": 5}})
    assert len(await retriever.ainvoke("search query")) == 2
    assert await vector_store.delete_by_document_id(doc_ids[0])
    await vector_store._close_connection()

    embedding_model = EmbeddingFactory.get_embedding_model(
        embedding_type=EmbeddingType.WORDLLAMA, embedding_config=None
    )
    assert len(embedding_model.embed_query("This is a sample document")) == 256
    assert len(embedding_model.embed_documents(["doc1", "doc2", "doc3"])) == 3


asyncio.run(main())
print("done")
"""


def run(script: str, directory: Path, *path: Path) -> None:
    environment = {"HOME": str(directory), "PYTHONPATH": ":".join(map(str, path)), "PATH": ""}
    file = directory / "samples.py"
    file.write_text(script)
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(file)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.endswith("done\n")


def test_the_samples_run_installed(tmp_path: Path) -> None:
    run(SAMPLES.format(package="app"), tmp_path)


def test_the_samples_run_from_a_checkout(tmp_path: Path) -> None:
    run(SAMPLES.format(package="src.app"), tmp_path, ROOT)


def test_a_copy_under_another_name_beside_an_application_called_app(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src" / "app", tmp_path / "myproject" / "data", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "myproject" / "__init__.py").touch()
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("mine = True\n")
    check = "\nimport sys, app\nassert app.mine and not [name for name in sys.modules if name.startswith('app.')]\n"
    run(check + SAMPLES.format(package="myproject.data") + check + "print('done')\n", tmp_path, tmp_path)
