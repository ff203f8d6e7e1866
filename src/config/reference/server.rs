//! `[server.NAME]` and its tables.

use super::{Absent, Key, Kind, Page, Word, key};

pub(in crate::config) static SERVER: Page = Page {
    title: "[server.NAME]",
    text: "A server. NAME is of your choice: letters, digits, `_`, `.` and `-`, a letter or digit first, at most 40. It becomes a part of the names of snapshots.",
    keys: SERVER_KEYS,
    one_of: &["address", "socket"],
    needs: &[],
    ways: &[],
    example: "address = \"db1.lab.example:3306\"\ncredentials = \"/etc/understudy/db.cnf\"\ntls = \"verify-full\"\ntls_ca = \"/etc/understudy/ca.pem\"\n",
};

const SERVER_KEYS: &[Key] = &[
    key(
        "address",
        Kind::Address,
        Absent::Means("`socket` stands there"),
        "Where it listens. Without a port it is 3306; an IPv6 address stands in brackets.",
        "\"db1.example:3306\"",
    ),
    key(
        "socket",
        Kind::Path,
        Absent::Means("`address` stands there"),
        "Its Unix socket, on this host.",
        "\"/run/mysqld/mysqld.sock\"",
    ),
    key(
        "credentials",
        Kind::Path,
        Absent::Means("`root`, without a password"),
        "Who logs in: a MySQL option file, groups `[client]` and `[understudy]`. One that others may read is refused ([ACCOUNTS.md](ACCOUNTS.md)).",
        "\"/etc/understudy/db.cnf\"",
    ),
    key(
        "tls",
        Kind::Word(&[
            (
                "disabled",
                "not at all; for a socket, a loopback address or a tunnel",
            ),
            ("required", "encrypted, but nobody knows with whom"),
            ("verify-ca", "and the certificate is signed by `tls_ca`"),
            ("verify-full", "and it carries the host name of the address"),
        ]),
        Absent::Is("\"disabled\""),
        "How the connection is protected. TLS that is asked for and not to be had is an error. Not with a socket.",
        "\"required\"",
    ),
    key(
        "tls_ca",
        Kind::Path,
        Absent::Means("only with `disabled` or `required`"),
        "The certificate of who signed the server's; with `verify-ca` and `verify-full`, and only with these.",
        "\"/etc/understudy/ca.pem\"",
    ),
    key(
        "snapshot",
        Kind::Table(&SNAPSHOT),
        Absent::Means("its defaults; `run --all` passes it over"),
        "How its snapshots are taken.",
        "",
    ),
    key(
        "service",
        Kind::Table(&SERVICE),
        Absent::Means("it can't be stopped or started"),
        "How it is stopped and started.",
        "",
    ),
];

static SNAPSHOT: Page = Page {
    title: "[server.NAME.snapshot]",
    text: "How snapshots of this server are taken, proven and kept. `understudy run --all` takes the servers that have this table, and `check` misses snapshots only there, or where some were taken.",
    keys: SNAPSHOT_KEYS,
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "backend = \"auto\"\nconsistency = \"pause\"\nmax_pause = \"30s\"\nkeep = { last = 3, daily = 7, weekly = 4, monthly = 12, verified = 2 }\nverify = \"boot\"\nverify_tables_every = \"7d\"\n",
};

const SNAPSHOT_KEYS: &[Key] = &[
    key(
        "backend",
        Kind::Word(&[
            ("auto", "whatever the data directory lies on has"),
            ("zfs", "a snapshot of its datasets"),
            ("lvm", "a snapshot of its logical volumes, thin or thick"),
            ("btrfs", "a read-only snapshot of its subvolume"),
            (
                "reflink",
                "file by file, by reference, on the filesystem of the data (XFS, btrfs)",
            ),
            ("copy", "file by file, anywhere"),
            (
                "dump",
                "SQL by the server's own dump program, of a server anywhere",
            ),
        ]),
        Absent::Is("\"auto\""),
        "What takes the snapshot.",
        "\"btrfs\"",
    ),
    key(
        "consistency",
        Kind::Word(&[
            (
                "pause",
                "the replica's SQL threads stand still meanwhile; for replicas",
            ),
            ("lock", "a backup lock; for a server that is no replica"),
            ("stop", "the server is stopped; needs the `service` table"),
        ]),
        Absent::Is("\"pause\""),
        "What keeps the data still meanwhile.",
        "\"lock\"",
    ),
    key(
        "max_pause",
        Kind::Duration,
        Absent::Is("\"30s\""),
        "Past this the snapshot is given up and replication goes on. More than nothing, at most a day.",
        "\"10s\"",
    ),
    key(
        "lock_wait",
        Kind::Duration,
        Absent::Is("\"5s\""),
        "How long one lock statement may wait; at most `max_pause`. With a shorter `max_pause` the default is that.",
        "\"2s\"",
    ),
    key(
        "max_lag",
        Kind::Duration,
        Absent::Is("\"1h\""),
        "A replica further behind than this is refused. What it is kept behind on purpose doesn't count.",
        "\"10m\"",
    ),
    key(
        "temp_table_wait",
        Kind::Duration,
        Absent::Is("\"60s\""),
        "How long to wait, before the pause, until replicated temporary tables are gone.",
        "\"5m\"",
    ),
    key(
        "cow_size",
        Kind::Share,
        Absent::Is("\"20%\""),
        "Thick LVM alone: the room for changes while the snapshot lives, as a share of the origin (1% to 100%) or a size.",
        "\"10GiB\"",
    ),
    key(
        "directory",
        Kind::Path,
        Absent::Means("needed by `reflink`, `copy` and `dump`; else beside the data"),
        "Where copies and dumps go. For `reflink` on the filesystem of the data; for btrfs where the data directory is itself a mounted subvolume ([NIGHTLY.md](NIGHTLY.md)).",
        "\"/srv/snapshots\"",
    ),
    key(
        "path_map",
        Kind::PathMap,
        Absent::Means("paths are found by the server's own mount table"),
        "In containers: the server's paths on the left, the same place as this host sees it on the right. The longest prefix wins.",
        "{ \"/var/lib/mysql\" = \"/srv/containers/db2/data\" }",
    ),
    key(
        "keep",
        Kind::Table(&KEEP),
        Absent::Means("everything stays"),
        "Which snapshots `snapshot prune` and `run` keep.",
        "{ last = 3, daily = 7, weekly = 4, monthly = 12, verified = 2 }",
    ),
    key(
        "verify",
        Kind::Word(&[
            ("nothing", "not at all"),
            (
                "boot",
                "a private server comes up on a clone of it, at the recorded position",
            ),
            ("tables", "and CHECK TABLE of every table"),
            (
                "rows",
                "and all rows are those that the previous one and the binary logs give",
            ),
        ]),
        Absent::Is("\"boot\""),
        "How far `understudy run` proves each night's snapshot.",
        "\"tables\"",
    ),
    key(
        "verify_tables_every",
        Kind::Duration,
        Absent::Means("only as `verify` says"),
        "Besides, so often every table is looked at.",
        "\"7d\"",
    ),
    key(
        "verify_rows_every",
        Kind::Duration,
        Absent::Means("only as `verify` says"),
        "Besides, so often all rows are compared.",
        "\"30d\"",
    ),
];

/// Far more than any retention keeps; the parser has the same limit.
const KEEP_MAX: u32 = 100_000;

const fn kept(name: &'static str, text: &'static str) -> Key {
    key(name, Kind::Count(KEEP_MAX), Absent::Is("0"), text, "7")
}

static KEEP: Page = Page {
    title: "[server.NAME.snapshot.keep]",
    text: "What stays. A snapshot that any rule keeps stays; held ones and the newest good one always do. Without any rule everything stays. Days, weeks, months and years are those of the local calendar.",
    keys: &[
        kept("last", "The newest ones."),
        kept(
            "hourly",
            "Of so many of the newest hours the newest one each.",
        ),
        kept("daily", "Of days."),
        kept("weekly", "Of weeks."),
        kept("monthly", "Of months."),
        kept("yearly", "Of years."),
        kept("verified", "The newest ones that a server has come up on."),
        key(
            "within",
            Kind::Duration,
            Absent::Means("no snapshot stays for its age alone"),
            "All that are younger than this.",
            "\"14d\"",
        ),
    ],
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "last = 3\ndaily = 7\nweekly = 4\nmonthly = 12\nverified = 2\nwithin = \"2d\"\n",
};

const RUNTIMES: &[Word] = &[("docker", "Docker"), ("podman", "Podman")];

static SERVICE: Page = Page {
    title: "[server.NAME.service]",
    text: "What stops and starts this server: a unit, two commands, or a container; one of the three. Only `consistency = \"stop\"`, `snapshot restore --in-place`, MariaDB's `--provision clone` and the like need it.",
    keys: &[
        key(
            "unit",
            Kind::Text(
                "a unit of systemd",
                "^[A-Za-z0-9:_.@\\\\][A-Za-z0-9:_.@\\\\-]*$",
            ),
            Absent::Means("`start` and `stop`, or `container`"),
            "The unit, for `systemctl`.",
            "\"mariadb.service\"",
        ),
        key(
            "start",
            Kind::Program,
            Absent::Means("`unit`, or `container`"),
            "What starts it, without a shell; together with `stop`.",
            "[\"/usr/local/sbin/db2-start\"]",
        ),
        key(
            "stop",
            Kind::Program,
            Absent::Means("`unit`, or `container`"),
            "What stops it, and ends when it is stopped.",
            "[\"/usr/local/sbin/db2-stop\"]",
        ),
        key(
            "container",
            Kind::Text("a container's name", "^[A-Za-z0-9][A-Za-z0-9_.-]*$"),
            Absent::Means("`unit`, or `start` and `stop`"),
            "The container that it runs in, together with `runtime`.",
            "\"db2\"",
        ),
        key(
            "runtime",
            Kind::Word(RUNTIMES),
            Absent::Means("no container"),
            "What runs the container.",
            "\"podman\"",
        ),
        key(
            "server_binary",
            Kind::Text("a path, or `container`", "^(/|container$)"),
            Absent::Means("found from the running server"),
            "The program that a private server is booted with for proofs and restores. `container`: that of the server's own container, run on this host as the account that owns the data ([SECURITY.md](SECURITY.md)).",
            "\"/usr/sbin/mysqld\"",
        ),
    ],
    one_of: &[],
    needs: &[
        ("start", "stop"),
        ("stop", "start"),
        ("container", "runtime"),
        ("runtime", "container"),
    ],
    ways: &[],
    example: "unit = \"mariadb.service\"\n",
};
