"""What the scripts beside it share: the lab's server and one account there, by DataJoint 0.14 or 2.x.

The first word on the command line is what to do, the second the server's port; without one, the
server is the one that DataJoint's own configuration names.
"""
import sys
import warnings

# That there is no configuration file, and that MariaDB isn't supported by 2.x.
warnings.simplefilter("ignore")
import datajoint as dj  # noqa: E402

IS_NEW = int(dj.__version__.split(".")[0]) >= 2
# Of 2.x, longblob is bytes.
ARRAY = "<blob>" if IS_NEW else "longblob"

what = sys.argv[1]

if len(sys.argv) > 2:
    dj.config["database.host"] = "127.0.0.1"
    dj.config["database.port"] = int(sys.argv[2])
    dj.config["database.user"] = "lab"
    dj.config["database.password"] = "lab at work"
dj.config["database.use_tls"] = None if IS_NEW else False
dj.config["safemode"] = False
# Of 2.x it goes to stdout.
dj.config["loglevel"] = "ERROR"
dj.logger.setLevel("ERROR")


def schema(name, is_first):
    """The schema of that name and of this version; `is_first` makes it and its tables."""
    name += "_2" if IS_NEW else ""
    return dj.Schema(name, create_tables=is_first, create_schema=is_first)


def rows(table, order_by="KEY"):
    """All of a table, as dicts."""
    if IS_NEW:
        return table.to_dicts(order_by=order_by)
    return table.fetch(as_dict=True, order_by=order_by)
