import io
import json
import sqlite3
import subprocess
import sys
from datetime import datetime
from importlib import import_module
from pathlib import Path

import optuna
import pytest
from alembic.config import Config
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

import search.store.migrations
import service.tables  # noqa: F401  which belong to the same schema
from search.errors import StorageError, UnknownNameError, UsageError
from search.evaluation.evaluation import EVALUATION_VERSION
from search.locations import storage_url, without_password
from search.space.task import OwnNetwork, find_task
from search.store import queries as selecting
from search.store import schema
from search.store.store import SearchRecord, Store, TrialEnd
from tests.support.fakes import formula

CANDIDATE = find_task("digits").space.baseline()


def open_store(folder: Path) -> Store:
    return Store.open(f"sqlite:///{folder / 'results.db'}", create=True)


def create(store: Store, name: str | None = None) -> SearchRecord:
    return store.create_search(
        name=name, task="digits", hardware="any", seed=0, budget=20, population_size=10, min_accuracy=0.9
    )


def test_names_are_given_and_unique(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert [create(store).name, create(store).name] == ["digits-1", "digits-2"]
        assert create(store, "mine").name == "mine"
        with pytest.raises(UsageError, match="a search or study named 'mine' exists; continue it with `resume`"):
            create(store, "mine")
        with pytest.raises(UnknownNameError, match=r"no search named 'mien'.*did you mean 'mine'"):
            store.find_search("mien")
        with pytest.raises(UsageError, match="`name` may have up to 100 letters"):
            create(store, "exp[/1]")
        assert [record.name for record in store.searches()] == ["mine", "digits-2", "digits-1"]


def test_evaluations_come_back_as_they_were_and_are_never_overwritten(tmp_path: Path) -> None:
    evaluation = formula(CANDIDATE)
    with open_store(tmp_path) as store:
        store.record_evaluation("k", evaluation, task="digits", hardware="any", seed=1)
        store.record_test("k", (0.5, 0.7))
        other = formula(CANDIDATE.from_dict({**CANDIDATE.to_dict(), "depth": 1}))
        kept = store.record_evaluation("k", other, task="digits", hardware="any", seed=1)
        assert kept.evaluation == evaluation
    with open_store(tmp_path) as store:
        found = store.find_evaluation("k")
        assert found is not None
        assert found.evaluation == evaluation
        assert found.test_accuracy == pytest.approx(0.6)
        assert store.find_evaluation("other") is None


def test_evaluations_are_listed_by_energy_and_by_what_they_belong_to(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        for depth in (3, 1, 2):
            candidate = CANDIDATE.from_dict({**CANDIDATE.to_dict(), "depth": depth})
            store.record_evaluation(str(depth), formula(candidate), task="digits", hardware="any", seed=0)
        store.record_evaluation("x", formula(CANDIDATE), task="mnist", hardware="any", seed=0)
        store.record_evaluation("y", formula(CANDIDATE), task="digits", hardware="other", seed=0)
        assert [r.key for r in store.evaluations(task="digits", hardware="any")] == ["1", "2", "3"]
        two = store.evaluations(task="digits", hardware="any", min_accuracy=formula(CANDIDATE).accuracy - 0.02)
        assert [r.key for r in two] == ["2", "3"]


def test_evaluations_of_an_older_version_are_not_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_store(tmp_path) as store:
        store.record_evaluation("k", formula(CANDIDATE), task="digits", hardware="any", seed=0)
        assert store.evaluations(task="digits", hardware="any")
        monkeypatch.setattr(selecting, "EVALUATION_VERSION", 99)
        assert store.evaluations(task="digits", hardware="any") == []


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
        create(store)
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'results.db'}") == ["theirs"]


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with sqlite3.connect(tmp_path / "results.db") as connection:
        connection.execute("UPDATE crosslayer_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StorageError, match="written by a newer version of crosslayer"):
        open_store(tmp_path)


def test_a_kill_in_the_middle_of_making_the_tables_leaves_nothing(tmp_path: Path) -> None:
    code = (
        "import os, alembic.op\n"
        "make = alembic.op.create_table\n"
        "def die(name, *columns): return os._exit(9) if name == 'evaluations' else make(name, *columns)\n"
        "alembic.op.create_table = die\n"
        "from search.store.store import Store\n"
        f"Store.open('sqlite:///{tmp_path / 'results.db'}', create=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    with open_store(tmp_path) as store:
        assert create(store).name == "digits-1"


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
            assert compare_metadata(context, schema.Base.metadata) == []


def test_a_database_of_an_older_version_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.setattr(schema, "SCHEMA", "0001")
        open_store(tmp_path).close()
    evaluation = formula(CANDIDATE)
    with sqlite3.connect(tmp_path / "results.db") as connection:
        connection.execute(
            "INSERT INTO searches VALUES (1, 'digits-1', 'digits', 'any', 0, 20, 10, 0.9, '2026-01-02 03:04:05', NULL)"
        )
        connection.execute(
            "INSERT INTO evaluations (key, version, task, hardware, seed, candidate_key, accuracy, energy_pj, content, "
            "created_at) VALUES ('k', ?, 'digits', 'any', 0, ?, ?, ?, ?, '2026-01-02 03:04:05')",
            (
                EVALUATION_VERSION,
                CANDIDATE.key,
                evaluation.accuracy,
                evaluation.energy_pj,
                json.dumps(evaluation.to_dict()),
            ),
        )
        connection.execute("INSERT INTO search_evaluations VALUES (1, 0, 'k', NULL)")
    connection.close()
    with open_store(tmp_path) as store:
        search = store.find_search("digits-1")
        assert (search.id, search.budget, search.created_at) == (1, 20, datetime(2026, 1, 2, 3, 4, 5))
        assert search.multipliers is None
        assert search.space is None
        assert search.settings.starts == ()
        assert search.settings.effort == "standard"
        assert [record.evaluation for record in store.search_evaluations(search)] == [formula(CANDIDATE)]
        with pytest.raises(UsageError, match="a search or study named 'digits-1' exists"):
            create(store, "digits-1")
    with sqlite3.connect(tmp_path / "results.db") as connection:
        assert connection.execute("SELECT version_num FROM crosslayer_version").fetchall() == [(schema.SCHEMA,)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_the_multipliers_and_the_space_of_a_search_are_kept(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert create(store).multipliers is None
        found = store.create_search(
            name="chosen",
            task="digits",
            hardware="any",
            seed=0,
            budget=20,
            population_size=10,
            min_accuracy=None,
            multipliers=("exact", "mine@01234567"),
            space=find_task("digits").space.to_dict(),
        )
        assert found.space == find_task("digits").space.to_dict()
        assert found.multipliers == ("exact", "mine@01234567")
    with open_store(tmp_path) as store:
        assert store.find_search("chosen") == found
        assert store.reopen_search(found, budget=30, min_accuracy=None).multipliers == found.multipliers
        assert store.find_search("digits-1").multipliers is None


@pytest.mark.parametrize(
    ("migration", "statements"),
    [
        (
            "0002_own_networks",
            [
                "ALTER TABLE searches ALTER COLUMN task TYPE VARCHAR(500);",
                "ALTER TABLE evaluations ALTER COLUMN task TYPE VARCHAR(500);",
            ],
        ),
        ("0003_multipliers", ["ALTER TABLE searches ADD COLUMN multipliers JSON;"]),
        ("0004_search_options", ["ALTER TABLE searches ADD COLUMN space JSON;"]),
    ],
)
def test_postgresql_is_migrated_in_place(migration: str, statements: list[str]) -> None:
    written = io.StringIO()
    options = {"as_sql": True, "output_buffer": written}
    with Operations.context(MigrationContext.configure(dialect_name="postgresql", opts=options)):
        import_module(f"search.store.migrations.versions.{migration}").upgrade()
    assert [line for line in written.getvalue().splitlines() if line] == statements


def test_searches_of_a_persons_own_network_are_named_by_the_dataset(tmp_path: Path) -> None:
    network = OwnNetwork(path=f"{'p' * 290}:build", folder="", max_depth=3, max_width=8, fingerprint="0" * 64)
    task = find_task("digits").with_network(network)
    assert len(task.identity) <= 500
    with open_store(tmp_path) as store:
        create(store)
        found = store.create_search(
            name=None, task=task.identity, hardware="any", seed=0, budget=20, population_size=10, min_accuracy=0.9
        )
        assert (found.name, found.task) == ("digits-2", task.identity)
        store.record_evaluation("own", formula(task.space.baseline()), task=task.identity, hardware="any", seed=0)
        assert store.evaluations(task="digits", hardware="any") == []
        assert [r.key for r in store.evaluations(task=task.identity, hardware="any")] == ["own"]


def test_passwords_are_not_printed() -> None:
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    with pytest.raises(StorageError) as caught:
        Store.open("mysql://me:secret@host/db", create=True)
    assert "secret" not in str(caught.value)


def test_storage_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_url("results.db") == "sqlite:///results.db"
    assert storage_url("postgresql://me@host/db") == "postgresql://me@host/db"
    assert storage_url().endswith("crosslayer/crosslayer.db")
    monkeypatch.setenv("CROSSLAYER_STORAGE", "sqlite:///from-environment.db")
    assert storage_url() == "sqlite:///from-environment.db"
    with pytest.raises(UsageError, match="is not a database URL"):
        storage_url("http//://x")


def test_how_each_trial_ended(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        search, other = create(store), create(store)
        store.record_evaluation("aa", formula(CANDIDATE), task="digits", hardware="any", seed=0)
        store.record_trial(search, 1, error="diverged")
        store.record_trial(search, 0, evaluation_key="aa")
        store.record_trial(other, 0, error="another search's")
        assert store.trial_ends(search) == [
            TrialEnd(number=0, evaluation_key="aa", error=None),
            TrialEnd(number=1, evaluation_key=None, error="diverged"),
        ]
