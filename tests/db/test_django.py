"""Rowlock behind Django's Tasks framework, on Django's own connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any
from unittest.mock import ANY

import pytest
from asgiref.sync import async_to_sync
from django.core import checks
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import override_settings
from django_tasks import TaskResult, default_task_backend
from django_tasks.exceptions import TaskResultDoesNotExist

from rowlock import ConfigurationError, InvalidArguments, Job, Rowlock, Task
from rowlock.testing import assert_enqueued_sync, assert_not_enqueued_sync
from tests import django_project

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:django")
SQLITE = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}


@pytest.fixture
def project(database_url: str) -> Iterator[None]:
    databases = {"default": django_project.settings_of(database_url)}
    with override_settings(TASKS=django_project.TASKS), django_project.project(**databases):
        yield


@pytest.fixture
def tasks(project: None) -> ModuleType:
    from tests import django_tasks_of_tests

    django_tasks_of_tests.happened.clear()
    return django_tasks_of_tests


@pytest.fixture
def queue(tasks: ModuleType) -> Rowlock:
    from rowlock.integrations.django import get_queue

    for value in vars(tasks).values():
        if hasattr(value, "get_backend"):
            value.get_backend().validate_task(value)  # as the import of the module does in a project
    return get_queue()


def drain(queue: Rowlock) -> None:
    async def run() -> None:
        async with queue:
            await queue.worker(concurrency=4).drain()

    asyncio.run(run())


def jobs() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM rowlock.jobs")
        return int(cursor.fetchone()[0])


class TestEnqueue:
    def test_job_exists_if_and_only_if_the_transaction_commits(self, tasks: ModuleType) -> None:
        with transaction.atomic():
            tasks.add.enqueue(1)
            transaction.set_rollback(True)
        assert jobs() == 0
        with transaction.atomic():
            tasks.add.enqueue(1)
        assert jobs() == 1

    def test_savepoint_that_is_rolled_back_takes_its_job_along(self, tasks: ModuleType) -> None:
        with transaction.atomic():
            tasks.add.enqueue(1)
            with transaction.atomic():
                tasks.add.enqueue(2)
                transaction.set_rollback(True)
        assert jobs() == 1

    def test_without_a_transaction_the_job_is_there_at_once(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.add.enqueue(1, b=5)
        assert (result.status, result.args, result.kwargs, result.is_finished) == ("READY", [1], {"b": 5}, False)
        job = asyncio.run(_get(queue, result.id))
        assert (job.task, job.args, job.queue, job.priority, job.max_attempts) == (
            "tests.django_tasks_of_tests.add",
            {"a": 1, "b": 5},
            "default",
            5,
            3,
        )

    def test_options_of_the_task_and_of_using_reach_the_job(self, tasks: ModuleType) -> None:
        due = datetime.now(UTC) + timedelta(hours=1)
        result = tasks.add.using(priority=-100, queue_name="email", run_after=due).enqueue(1)
        stored = tasks.add.get_result(result.id)
        assert (stored.task.priority, stored.task.queue_name, stored.task.run_after) == (-100, "email", due)
        result = tasks.greet.enqueue("ada")
        stored = tasks.greet.get_result(result.id)
        assert (stored.task.priority, stored.task.queue_name, stored.task.run_after) == (50, "email", None)

    @pytest.mark.parametrize(
        "given, stored", [(-100, 0), (-81, 0), (-80, 1), (-1, 4), (0, 5), (19, 5), (20, 6), (100, 9)]
    )
    def test_priorities_are_mapped_twenty_a_step(self, given: int, stored: int) -> None:
        from rowlock.integrations.django.results import rowlock_priority

        assert rowlock_priority(given) == stored

    def test_async_code_enqueues_in_the_same_transaction(self, tasks: ModuleType) -> None:
        @async_to_sync
        async def enqueue() -> str:
            return str((await tasks.add.aenqueue(1)).id)

        with transaction.atomic():
            result = enqueue()
            transaction.set_rollback(True)
        assert jobs() == 0
        result = enqueue()
        assert async_to_sync(tasks.add.aget_result)(result).status == "READY"

    def test_on_commit_may_enqueue_too(self, tasks: ModuleType) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: tasks.add.enqueue(1))
            assert jobs() == 0
        assert jobs() == 1

    def test_signal_tells_of_what_was_enqueued(self, tasks: ModuleType) -> None:
        from rowlock.integrations.django.framework import task_enqueued

        told: list[Any] = []

        def receive(task_result: TaskResult[Any], **_: object) -> None:
            told.append(task_result)

        task_enqueued.connect(receive)
        try:
            result = tasks.add.enqueue(1)
        finally:
            task_enqueued.disconnect(receive)
        assert [one.id for one in told] == [result.id]


class TestRefusals:
    def test_arguments_that_do_not_fit_the_function_are_refused_and_the_transaction_goes_on(
        self, tasks: ModuleType
    ) -> None:
        with transaction.atomic():
            for arguments in (["one"], [], [1, 2, 3]):
                with pytest.raises(InvalidArguments, match=r"Task 'tests\.django_tasks_of_tests\.add'"):
                    tasks.add.enqueue(*arguments)
            with pytest.raises(InvalidArguments, match="day"):
                tasks.birthday.enqueue("ada", "no date")
            tasks.add.enqueue(1)
        assert jobs() == 1

    def test_what_django_takes_for_no_json_is_refused(self, tasks: ModuleType) -> None:
        with pytest.raises(TypeError, match="Unsupported type"):
            tasks.add.enqueue(datetime.now(UTC))
        assert jobs() == 0

    @pytest.mark.usefixtures("project")
    def test_function_whose_call_cannot_be_stored_is_refused_when_it_is_defined(self) -> None:
        from django_tasks import task

        from rowlock.integrations.django.framework import InvalidTask

        with pytest.raises(InvalidTask, match="accepts any number of arguments"):
            task(_takes_anything)

    def test_other_engine_is_refused_with_the_remedy(self, tasks: ModuleType) -> None:
        from rowlock.integrations.django import RowlockBackend, get_queue
        from rowlock.integrations.django.framework import InvalidTaskBackend

        with override_settings(TASKS=django_project.TASKS), django_project.project(default=SQLITE):
            with pytest.raises(ConfigurationError, match=r"got the engine django\.db\.backends\.sqlite3.*Use django"):
                get_queue()
            with pytest.raises(InvalidTaskBackend, match="must be PostgreSQL for Rowlock's jobs"):
                tasks.add.enqueue(1)
            (found,) = RowlockBackend("default", {}).check()
            assert isinstance(found, checks.Error)
            assert found.id == "rowlock.E001"

    def test_unknown_option_of_the_backend_is_refused(self) -> None:
        from rowlock.integrations.django import RowlockBackend
        from rowlock.integrations.django.framework import InvalidTaskBackend

        with pytest.raises(InvalidTaskBackend, match=r"\['OPTIONS'\] must be some of database, .*; got 'retries'"):
            RowlockBackend("default", {"OPTIONS": {"retries": 3}})

    @pytest.mark.usefixtures("project")
    def test_project_without_the_application_is_warned(self) -> None:
        from rowlock.integrations.django import RowlockBackend

        with override_settings(INSTALLED_APPS=[]):
            (found,) = RowlockBackend("default", {}).check()
        assert isinstance(found, checks.Warning)
        assert RowlockBackend("default", {}).check() is not None

    def test_result_that_is_none_does_not_exist(self, tasks: ModuleType) -> None:
        for given in ("00000000-0000-7000-8000-000000000000", "no id", ""):
            with pytest.raises(TaskResultDoesNotExist):
                tasks.add.get_result(given)


class TestOrdinaryTasks:
    """Tasks of Rowlock's own, on the project's queue."""

    @pytest.fixture
    def greet(self, queue: Rowlock) -> Iterator[Task[[str], str]]:
        @queue.task(name="ordinary", queue="email")
        def greet(name: str) -> str:
            return f"hello {name}"

        yield greet
        del queue.tasks["ordinary"]

    def test_job_exists_if_and_only_if_djangos_transaction_commits(
        self, greet: Task[[str], str], queue: Rowlock
    ) -> None:
        for name in ("ada", "bob"):
            with transaction.atomic():
                greet.using(connection=connection).enqueue_sync(name)
                transaction.set_rollback(name == "bob")
        drain(queue)
        with connection.cursor() as cursor:
            cursor.execute("SELECT args ->> 'name', result #>> '{}' FROM rowlock.jobs")
            assert cursor.fetchall() == [("ada", "hello ada")]

    def test_job_is_no_result_of_djangos(self, greet: Task[[str], str]) -> None:
        with transaction.atomic():
            job = greet.using(connection=connection).enqueue_sync("ada")
        with pytest.raises(TaskResultDoesNotExist, match="must be one of Django's; got ordinary"):
            default_task_backend.get_result(str(job.id))


class TestResults:
    def test_success_of_a_plain_task_has_its_value_times_and_worker(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.add.enqueue(1, b=5)
        drain(queue)
        result.refresh()
        assert (result.status, result.return_value, result.attempts, result.errors) == ("SUCCESSFUL", 6, 1, [])
        assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
        stored = tasks.add.get_result(result.id)
        assert (stored.kwargs, stored.worker_ids, stored.backend) == ({"a": 1, "b": 5}, [ANY], "default")

    def test_success_of_an_async_task(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.greet.enqueue("ada")
        drain(queue)
        assert tasks.greet.get_result(result.id).return_value == {"hello": "ada"}

    def test_failure_has_every_error_with_its_traceback_and_class(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.fail.enqueue(1)
        drain(queue)
        stored = tasks.fail.get_result(result.id)
        assert (stored.status, stored.is_finished, stored.attempts, len(stored.worker_ids)) == ("FAILED", True, 3, 3)
        assert [error.exception_class for error in stored.errors] == [LookupError] * 3
        assert "attempt 3" in stored.errors[2].traceback
        assert "in fail" in stored.errors[2].traceback
        with pytest.raises(ValueError, match="Task failed"):
            _ = stored.return_value

    def test_arguments_arrive_as_they_are_annotated(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.birthday.enqueue("ada", "1815-12-10")
        drain(queue)
        assert tasks.birthday.get_result(result.id).return_value == "ada 1815-12-10"

    def test_context_says_which_attempt_it_is_and_what_went_wrong_before(
        self, tasks: ModuleType, queue: Rowlock
    ) -> None:
        first, second = tasks.attempt.enqueue(1), tasks.attempt.enqueue(2)
        third = tasks.async_attempt.enqueue()
        drain(queue)
        assert tasks.attempt.get_result(first.id).return_value == [1, "RUNNING", 0, {"fail_until": 1}, 1]
        assert tasks.attempt.get_result(second.id).return_value == [2, "RUNNING", 1, {"fail_until": 2}, 1]
        assert tasks.async_attempt.get_result(third.id).return_value == 1

    def test_signals_tell_of_beginning_and_end(self, tasks: ModuleType, queue: Rowlock) -> None:
        from rowlock.integrations.django.framework import task_finished, task_started

        told: list[Any] = []

        def receive(task_result: TaskResult[Any], **_: object) -> None:
            told.append((task_result.task.name, task_result.status, len(task_result.errors)))

        signals = (task_started, task_finished)
        for signal in signals:
            signal.connect(receive)
        try:
            for task, arguments in ((tasks.add, [1]), (tasks.greet, ["ada"]), (tasks.fail, [1])):
                task.enqueue(*arguments)
                drain(queue)
        finally:
            for signal in signals:
                signal.disconnect(receive)
        assert told == [
            *(("add", "RUNNING", 0), ("add", "SUCCESSFUL", 0)),
            *(("greet", "RUNNING", 0), ("greet", "SUCCESSFUL", 0)),
            *(("fail", "RUNNING", n) for n in range(3)),
            ("fail", "FAILED", 3),
        ]

    def test_snoozed_task_is_ready_again(self, tasks: ModuleType, queue: Rowlock) -> None:
        result = tasks.later_again.enqueue()
        drain(queue)
        result.refresh()
        assert (result.status, result.attempts, result.errors) == ("READY", 1, [])

    def test_connections_are_closed_around_each_task(self, tasks: ModuleType, queue: Rowlock) -> None:
        for task in (tasks.query, tasks.query, tasks.aquery, tasks.aquery):
            task.enqueue()
            drain(queue)
        used = [opened for _, opened in tasks.happened]
        assert len(set(map(id, used))) == 4
        assert all(opened.closed for opened in used)


class TestMigrations:
    def test_migrate_makes_the_tables_and_takes_them_away(self, empty_database_url: str) -> None:
        databases = {"default": django_project.settings_of(empty_database_url) | {"OPTIONS": {"sslmode": "prefer"}}}
        with override_settings(TASKS=django_project.TASKS), django_project.project(**databases):
            call_command("migrate", verbosity=0)
            assert jobs() == 0
            call_command("migrate", "rowlock", "zero", verbosity=0)
            with connection.cursor() as cursor:
                cursor.execute("SELECT to_regclass('rowlock.job')")
                assert cursor.fetchone() == (None,)

    def test_newest_migration_for_django_is_rowlocks_newest(self) -> None:
        from pathlib import Path

        from rowlock import migrations
        from rowlock.integrations import django

        folder = Path(django.__file__).parent / "migrations"
        assert max(path.stem[:4] for path in folder.glob("0*.py")) == migrations.head()

    def test_database_that_holds_no_queue_is_left_alone(self, empty_database_url: str, database_url: str) -> None:
        databases = {
            "default": django_project.settings_of(database_url),
            "other": django_project.settings_of(empty_database_url),
        }
        with override_settings(TASKS=django_project.TASKS), django_project.project(**databases):
            from django.db import connections

            call_command("migrate", database="other", verbosity=0)
            with connections["other"].cursor() as cursor:
                cursor.execute("SELECT to_regclass('rowlock.job')")
                assert cursor.fetchone() == (None,)

    def test_command_migrates_as_well(self, empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("ROWLOCK_DATABASE_URL", raising=False)
        databases = {"default": django_project.settings_of(empty_database_url)}
        with override_settings(TASKS=django_project.TASKS), django_project.project(**databases):
            call_command("rowlock_migrate")
            assert jobs() == 0


class TestUrl:
    @pytest.mark.parametrize(
        "given, url",
        [
            ({"NAME": "shop"}, "postgresql:///shop"),
            (
                {"NAME": "shop", "USER": "ada", "PASSWORD": "a:b/c@d#e?", "HOST": "db", "PORT": 6432},
                "postgresql://ada:a%3Ab%2Fc%40d%23e%3F@/shop?host=db&port=6432",
            ),
            ({"NAME": "shop", "USER": "a@b", "HOST": "/run/pg"}, "postgresql://a%40b@/shop?host=%2Frun%2Fpg"),
            (
                {"NAME": "shop", "HOST": "db", "OPTIONS": {"sslmode": "require", "pool": True, "isolation_level": 3}},
                "postgresql:///shop?host=db&sslmode=require",
            ),
            ({"NAME": "", "OPTIONS": {"service": "shop"}}, "postgresql:///?service=shop"),
        ],
    )
    def test_database_of_django_becomes_a_url(self, given: dict[str, Any], url: str) -> None:
        from rowlock.integrations.django.queues import url_of

        with django_project.project(default={"ENGINE": "django.db.backends.postgresql", **given}):
            assert url_of("default") == url

    def test_environment_names_another_way_to_the_database(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from rowlock.integrations.django.queues import settings_of

        monkeypatch.setenv("DATABASE_URL", "mysql://of/the/platform")
        with django_project.project(default={"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}):
            assert settings_of("default").database_url == "postgresql:///shop"
            monkeypatch.setenv("ROWLOCK_DATABASE_URL", "postgresql://direct/shop")
            assert settings_of("default").database_url == "postgresql://direct/shop"


@pytest.mark.parametrize(
    "named, served", [({"QUEUES": ["email"]}, "default,email"), ({}, "default"), ({"QUEUES": []}, "*,default")]
)
def test_worker_serves_the_queues_that_the_backend_allows(project: None, named: dict[str, Any], served: str) -> None:
    from rowlock.integrations.django.management.commands.rowlock_worker import Command

    backend = {"BACKEND": "rowlock.integrations.django.RowlockBackend", **named}
    with override_settings(TASKS={"other": backend}):
        assert Command().words("other", ["--threads", "2"]) == [
            "worker",
            "rowlock.integrations.django.worker:other",
            "--queues",
            served,
            "--threads",
            "2",
        ]


async def _get(queue: Rowlock, job: str) -> Job:
    async with queue:
        return await queue.get(job)


def _takes_anything(*things: int) -> None: ...


class TestKit:
    def test_open_transaction_is_looked_into(self, queue: Rowlock, tasks: ModuleType) -> None:
        with transaction.atomic():
            tasks.add.enqueue(1)
            assert len(assert_enqueued_sync(queue, count=1, connection=connection)) == 1
            assert_not_enqueued_sync(queue)
            transaction.set_rollback(True)
        queue.close_sync()
