"""A worker as laboratories run them, and what is left of one.

worker.py init PORT: five tasks and no work. work PORT: populates what isn't reserved, a second each.
jobs PORT: the reservations. clear PORT: takes away those of workers that are gone. done PORT: what is done.
"""
import sys
import time

import datajoint as dj

dj.config["database.host"] = "127.0.0.1"
dj.config["database.port"] = int(sys.argv[2])
dj.config["database.user"] = "lab"
dj.config["database.password"] = "lab at work"
dj.config["database.use_tls"] = False
dj.config["safemode"] = False
dj.config["loglevel"] = "WARNING"
dj.logger.setLevel("WARNING")

what = sys.argv[1]
schema = dj.schema("lab_work", create_tables=what == "init", create_schema=what == "init")


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

    def make(self, key):
        print("making", key["task_id"], flush=True)
        time.sleep(1)
        self.insert1(dict(key, value=key["task_id"] ** 2))


if what == "init":
    Task.insert((task,) for task in range(1, 6))
    # The table of reservations, which the first worker would make.
    len(schema.jobs)
elif what == "work":
    try:
        Result.populate(reserve_jobs=True)
    except Exception as error:
        print("ended by", type(error).__name__, error.args[0] if error.args else "", flush=True)
        sys.exit(1)
elif what == "clear":
    (schema.jobs & 'status = "reserved"').delete()
elif what == "jobs":
    for job in schema.jobs.fetch(as_dict=True):
        print(job["table_name"], job["status"], job["key"]["task_id"])
elif what == "done":
    print(*Result.fetch("task_id", order_by="task_id"))
