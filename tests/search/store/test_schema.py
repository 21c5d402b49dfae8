import sqlite3
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import optuna
import pytest
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import search.store.migrations
import service.tables  # noqa: F401  which belong to the same schema
from search.errors import StorageError
from search.locations import without_password
from search.space.task import find_task
from search.store import schema
from search.store.database import Store
from search.store.tables import Base
from tests.support.fakes import SETUP, formula, new_search
from tests.support.postgresql import running_server


def open_store(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'results.db'}", create=True)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"not a database, but long enough to look like one" * 50)
    with pytest.raises(StorageError, match=r"cannot use the results database .*: file is not a database"):
        open_store(tmp_path)


def test_a_database_of_another_application(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "results.db") as connection:
        connection.execute("CREATE TABLE invoices (id INTEGER)")
    connection.close()
    with pytest.raises(StorageError, match="belongs to another application: it holds the table 'invoices'"):
        open_store(tmp_path)
    with sqlite3.connect(tmp_path / "results.db") as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    connection.close()
    assert tables == [("invoices",)]


def test_a_database_of_optuna_is_welcome(tmp_path: Path) -> None:
    optuna.create_study(study_name="theirs", storage=f"sqlite:///{tmp_path / 'results.db'}")
    with open_store(tmp_path) as store:
        new_search(store)
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'results.db'}") == ["theirs"]


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "results.db") as connection:
        connection.execute("UPDATE crosslayer_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="written by a newer version of crosslayer"):
        open_store(tmp_path)


@pytest.mark.process
def test_a_kill_in_the_middle_of_making_the_tables_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, alembic.op\n"
        "make = alembic.op.create_table\n"
        "def die(name, *columns): return os._exit(9) if name == 'evaluations' else make(name, *columns)\n"
        "alembic.op.create_table = die\n"
        "from search.store.database import Store\n"
        f"Store.open('sqlite:///{tmp_path / 'results.db'}', create=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with open_store(tmp_path) as store:
        assert new_search(store).name == "digits-1"


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no results yet: there is no file"):
        Store.open(f"sqlite:///{tmp_path / 'none.db'}", create=False)
    with pytest.raises(StorageError, match="is a folder"):
        Store.open(f"sqlite:///{tmp_path}", create=True)
    with pytest.raises(StorageError, match="cannot use the folder"):
        Store.open("sqlite:////proc/nowhere/results.db", create=True)
    Store.open(f"sqlite:///{tmp_path / 'new' / 'folder' / 'results.db'}", create=True).close()


def test_the_schema_is_the_newest_migration_and_what_the_code_reads(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(search.store.migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.SCHEMA
    with open_store(tmp_path) as store:
        from alembic.autogenerate import compare_metadata

        with store._engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": "crosslayer_version"})
            assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("server", ["sqlite", pytest.param("postgresql", marks=pytest.mark.process)])
def test_an_older_database_is_upgraded_with_what_it_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    with ExitStack() as stack:
        url = f"sqlite:///{tmp_path / 'results.db'}"
        if server == "postgresql":
            url = stack.enter_context(running_server()).url
        with Store.open(url, create=True) as store:
            old = new_search(store)
            evaluation = formula(find_task("digits").space.baseline())
            store.evaluations.record("k", evaluation, SETUP, seed=0)
            config = Config()
            config.set_main_option("script_location", str(Path(search.store.migrations.__file__).parent))
            config.set_main_option("path_separator", "os")
            with store._engine.begin() as connection:
                config.attributes["connection"] = connection
                command.downgrade(config, "0001")
        with Store.open(url, create=False) as store:
            assert store.searches.find(old.name) == old
            assert [one.evaluation for one in store.evaluations.front(SETUP, max_area_mm2=evaluation.area_mm2)] == [
                evaluation
            ]
            assert store.evaluations.front(SETUP, max_area_mm2=0.9 * evaluation.area_mm2) == []


def test_passwords_are_not_printed() -> None:
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    with pytest.raises(StorageError) as caught:
        Store.open("mysql://me:secret@host/db", create=True)
    assert "secret" not in str(caught.value)
