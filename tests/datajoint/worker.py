"""A worker as laboratories run them, and what is left of one.

worker.py begin [PORT]: makes five tasks and populates; in the second it waits for a line on its input, within
what it makes. late [PORT]: the same in a schema of its own, but it waits before the commit.
left [PORT]: what is done, how many rows there are, and the jobs that don't just wait.
resume [PORT]: takes away reservations, those of workers that are gone, and populates what is left;
says on which port its server is, and what is done then.
"""
import sys

from lab import IS_NEW, dj, rows, schema, what

begins = what in ("begin", "late")
schema = schema("lab_late" if what == "late" else "lab_work", begins)


@schema
class Task(dj.Manual):
    definition = """
    task_id : int
    """


@schema
class Result(dj.Computed):
    definition = """
    -> Task
    ---
    value : int
    """

    class Part(dj.Part):
        definition = """
        -> master
        number : int
        """

    def make(self, key):
        """One row, what takes long, and two more: none may be seen without the others."""
        self.insert1(dict(key, value=key["task_id"] ** 2))
        if what == "late":
            self.make_parts(key)
        waits = begins and len(Result()) == 2
        print("making", key["task_id"], flush=True)
        if waits:
            sys.stdin.readline()
        if what != "late":
            self.make_parts(key)

    def make_parts(self, key):
        self.Part.insert(dict(key, number=number) for number in (1, 2))


def jobs():
    """Reservations and failures: a table for each schema in 0.14, one for each table in 2.x."""
    return Result.jobs if IS_NEW else schema.jobs


def task_of(job):
    return job["task_id"] if IS_NEW else job["key"]["task_id"]


def done():
    whole = [row["task_id"] for row in rows(Result()) if len(Result.Part & {"task_id": row["task_id"]}) == 2]
    print("done", *whole)


if begins:
    Task.insert((task,) for task in range(1, 6))
    try:
        Result.populate(reserve_jobs=True)
    except Exception as error:
        print("ended by", type(error).__name__, *error.args, flush=True)
        sys.exit(1)
elif what == "left":
    done()
    print("rows", len(Result()), len(Result.Part()))
    print("jobs", *(f"{task_of(job)} {job['status']}" for job in rows(jobs()) if job["status"] != "pending"))
elif what == "resume":
    print("at", dj.conn().query("SELECT @@port").fetchone()[0])
    (jobs() & 'status = "reserved"').delete()
    Result.populate(reserve_jobs=True)
    done()
