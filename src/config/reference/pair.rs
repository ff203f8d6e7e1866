//! `[pair.NAME]` and its tables.

use super::{Absent, Key, Kind, Page, Way, key};

pub(in crate::config) static PAIR: Page = Page {
    title: "[pair.NAME]",
    text: "Servers that replicate. What stands here is how they were at first: after a failover the roles are read from the servers.",
    keys: &[
        key(
            "source",
            Kind::Server,
            Absent::Required,
            "The server that writes went to at first.",
            "\"db1\"",
        ),
        key(
            "replicas",
            Kind::Servers,
            Absent::Required,
            "Those that followed it, at least one.",
            "[\"db2\"]",
        ),
        key(
            "failover",
            Kind::Table(&FAILOVER),
            Absent::Means("its defaults"),
            "How it fails over.",
            "",
        ),
        key(
            "reroute",
            Kind::Tables(&REROUTE),
            Absent::Means("clients find the new source by themselves"),
            "How clients are led to the new source, as many ways as you like.",
            "",
        ),
    ],
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "source = \"db1\"\nreplicas = [\"db2\"]\n",
};

static FAILOVER: Page = Page {
    title: "[pair.NAME.failover]",
    text: "How the pair fails over ([FAILOVER.md](FAILOVER.md)). What is given with a command wins over what stands here.",
    keys: &[
        key(
            "prefer",
            Kind::Servers,
            Absent::Is("[]"),
            "Of equals the first of these becomes the source.",
            "[\"db2\"]",
        ),
        key(
            "never",
            Kind::Servers,
            Absent::Is("[]"),
            "These never become the source.",
            "[\"db1\"]",
        ),
        key(
            "fence",
            Kind::Program,
            Absent::Means("`--unfenced` is needed where the source can't be asked to close"),
            "The program that turns a server off and keeps it off. It finds which in `UNDERSTUDY_SERVER`, and ends with 0 when that is off.",
            "[\"/usr/local/sbin/fence-server\"]",
        ),
        key(
            "salvage",
            Kind::Program,
            Absent::Means("binary logs are read only where they are on this host"),
            "The program that copies a dead server's binary logs into the directory in `UNDERSTUDY_DIRECTORY`.",
            "[\"/usr/local/sbin/fetch-binary-logs\"]",
        ),
        key(
            "confirm",
            Kind::Duration,
            Absent::Is("\"5s\""),
            "How long the source has to be silent.",
            "\"10s\"",
        ),
        key(
            "cooldown",
            Kind::Duration,
            Absent::Is("\"10m\""),
            "For so long after a failover the next one needs `--again`.",
            "\"30m\"",
        ),
        key(
            "max_loss",
            Kind::Count(u32::MAX),
            Absent::Means("any loss is told, none refused"),
            "Refuse when more transactions are lost, or when that can't be told.",
            "100",
        ),
        key(
            "drain",
            Kind::Duration,
            Absent::Is("\"60s\""),
            "How long what was received may take to be applied.",
            "\"5m\"",
        ),
    ],
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "prefer = [\"db2\"]\nfence = [\"/usr/local/sbin/fence-server\"]\nconfirm = \"5s\"\nmax_loss = 100\n",
};

const ENTRY: &str = "^[A-Za-z0-9_.:-]+$";
const DOMAIN: &str = "^[A-Za-z0-9_][A-Za-z0-9_.-]*$";

const fn required(
    name: &'static str,
    kind: Kind,
    text: &'static str,
    example: &'static str,
) -> Key {
    key(name, kind, Absent::Required, text, example)
}

const ADDRESSES: Key = key(
    "addresses",
    Kind::PerServer(&Kind::Address),
    Absent::Means("the servers' own addresses"),
    "Where clients find each server.",
    "{ db1 = \"192.0.2.1\", db2 = \"192.0.2.2\" }",
);

static REROUTE: Page = Page {
    title: "[[pair.NAME.reroute]]",
    text: "One way to lead clients to the new source ([REROUTING.md](REROUTING.md)). Several stand one below the other, and are done in their order.",
    keys: &[
        key(
            "way",
            Kind::Word(&[
                ("vip", "an address that moves from host to host"),
                ("haproxy", "HAProxy, by its runtime socket"),
                ("dns", "a name, by an update that is signed"),
                ("file", "one key of a file that clients read"),
                ("exec", "a program of yours"),
            ]),
            Absent::Required,
            "Which way it is. The other keys depend on it.",
            "\"vip\"",
        ),
        key(
            "through",
            Kind::Address,
            Absent::Means("only the way's own state is looked at"),
            "Where clients connect: it is seen to reach the new source.",
            "\"192.0.2.20:3306\"",
        ),
        key(
            "timeout",
            Kind::Duration,
            Absent::Is("\"10s\""),
            "How long each of check, do, see and undo may take: from a second to ten minutes.",
            "\"30s\"",
        ),
    ],
    one_of: &[],
    needs: &[],
    ways: &[VIP, HAPROXY, DNS, FILE, EXEC],
    example: "",
};

const VIP: Way = Way {
    word: "vip",
    text: "An address that moves between the servers' hosts.",
    keys: &[
        required(
            "address",
            Kind::Text(
                "an IP address and its prefix",
                "^[0-9A-Fa-f.:]+/[0-9]{1,3}$",
            ),
            "The address that clients know.",
            "\"192.0.2.10/24\"",
        ),
        required(
            "interface",
            Kind::Text("an interface's name", "^[A-Za-z0-9][A-Za-z0-9_.@-]{0,14}$"),
            "The interface that gets it, the same on all hosts.",
            "\"eth0\"",
        ),
        required(
            "hosts",
            Kind::PerServer(&Kind::Runner),
            "What runs a program on each server's host, all of them named; `[]` is this host.",
            "{ db1 = [\"/usr/bin/ssh\", \"-o\", \"BatchMode=yes\", \"root@db1\"], db2 = [] }",
        ),
    ],
    one_of: &[],
    example: "address = \"192.0.2.10/24\"\ninterface = \"eth0\"\nhosts = { db1 = [\"/usr/bin/ssh\", \"-o\", \"BatchMode=yes\", \"root@db1\"], db2 = [] }\n",
};

const HAPROXY: Way = Way {
    word: "haproxy",
    text: "A back-end of HAProxy: one entry whose address changes (`server`), or an entry for each server of which one is ready (`servers`).",
    keys: &[
        required(
            "socket",
            Kind::Text("a path, or `HOST:PORT`", "^(/|.+:)"),
            "HAProxy's runtime socket, of level admin.",
            "\"/run/haproxy/admin.sock\"",
        ),
        required(
            "backend",
            Kind::Text("a name of HAProxy's", ENTRY),
            "The back-end.",
            "\"mysql\"",
        ),
        key(
            "server",
            Kind::Text("a name of HAProxy's", ENTRY),
            Absent::Means("`servers` stands there"),
            "The one entry, whose address is changed.",
            "\"current\"",
        ),
        key(
            "servers",
            Kind::PerServer(&Kind::Text("a name of HAProxy's", ENTRY)),
            Absent::Means("`server` stands there"),
            "The entry of each server of the pair.",
            "{ db1 = \"s1\", db2 = \"s2\" }",
        ),
        key(
            "addresses",
            Kind::PerServer(&Kind::Address),
            Absent::Means("the servers' own addresses"),
            "With `server`: the IP address and port of each.",
            "{ db1 = \"192.0.2.1:3306\", db2 = \"192.0.2.2:3306\" }",
        ),
    ],
    one_of: &["server", "servers"],
    example: "socket = \"/run/haproxy/admin.sock\"\nbackend = \"mysql\"\nserver = \"current\"\naddresses = { db1 = \"192.0.2.1:3306\", db2 = \"192.0.2.2:3306\" }\nthrough = \"192.0.2.20:3306\"\n",
};

const DNS: Way = Way {
    word: "dns",
    text: "A name whose record is changed by an update that is signed with a key.",
    keys: &[
        required(
            "server",
            Kind::Text("an IP address, or `HOST:PORT`", "^[A-Za-z0-9_.:\\[\\]-]+$"),
            "The name server that takes updates; port 53 where none is named.",
            "\"192.0.2.53\"",
        ),
        required(
            "zone",
            Kind::Text("a domain", DOMAIN),
            "The zone that is updated.",
            "\"lab.example\"",
        ),
        required(
            "name",
            Kind::Text("a domain", DOMAIN),
            "The name that clients know, in that zone.",
            "\"db.lab.example\"",
        ),
        required(
            "ttl",
            Kind::Duration,
            "How long resolvers may keep the record: whole seconds, at most a week.",
            "\"30s\"",
        ),
        required(
            "key_file",
            Kind::Path,
            "The key, as `tsig-keygen` writes it, for its owner only.",
            "\"/etc/understudy/dns.key\"",
        ),
        ADDRESSES,
    ],
    one_of: &[],
    example: "server = \"192.0.2.53\"\nzone = \"lab.example\"\nname = \"db.lab.example\"\nttl = \"30s\"\nkey_file = \"/etc/understudy/dns.key\"\naddresses = { db1 = \"192.0.2.1\", db2 = \"192.0.2.2\" }\n",
};

const FILE: Way = Way {
    word: "file",
    text: "One key of a file that clients read; all else in it stays as it is.",
    keys: &[
        required(
            "path",
            Kind::Path,
            "The file.",
            "\"/home/lab/dj_local_conf.json\"",
        ),
        required(
            "format",
            Kind::Word(&[("json", "JSON"), ("toml", "TOML"), ("ini", "option files")]),
            "What it is written in.",
            "\"json\"",
        ),
        required(
            "key",
            Kind::Text("a key", "."),
            "The key that holds the host; in a file of option groups `group.key`.",
            "\"database.host\"",
        ),
        key(
            "port_key",
            Kind::Text("a key", "."),
            Absent::Means("the port isn't changed; all servers have the same"),
            "The key that holds the port.",
            "\"database.port\"",
        ),
        ADDRESSES,
    ],
    one_of: &[],
    example: "path = \"/home/lab/dj_local_conf.json\"\nformat = \"json\"\nkey = \"database.host\"\nport_key = \"database.port\"\n",
};

const EXEC: Way = Way {
    word: "exec",
    text: "A program of yours; its environment tells what to do (`UNDERSTUDY_PHASE` is `check`, `do` or `undo`).",
    keys: &[required(
        "argv",
        Kind::Program,
        "The program and its arguments.",
        "[\"/usr/local/sbin/reroute-clients\"]",
    )],
    one_of: &[],
    example: "argv = [\"/usr/local/sbin/reroute-clients\"]\ntimeout = \"30s\"\n",
};
