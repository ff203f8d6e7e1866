//! The whole file, and `[notify]`.

use super::{Absent, Key, Kind, PAIR, Page, SERVER, Word, key};

pub(in crate::config) static ROOT: Page = Page {
    title: "",
    text: "Keys that stand before the first table.",
    keys: &[
        key(
            "state_dir",
            Kind::Path,
            Absent::Is("\"/var/lib/understudy\""),
            "Where leases, journals and manifests are kept. Made on first use, for its owner only.",
            "\"/var/lib/understudy\"",
        ),
        key(
            "server",
            Kind::Named(&SERVER),
            Absent::Required,
            "The servers, at least one, each under a name of your choice.",
            "",
        ),
        key(
            "pair",
            Kind::Named(&PAIR),
            Absent::Means("no pairs"),
            "The servers that replicate, each pair under a name of your choice.",
            "",
        ),
        key(
            "notify",
            Kind::Table(&NOTIFY),
            Absent::Means("nobody is told"),
            "Who is told what came of `understudy run`.",
            "",
        ),
        key(
            "metrics_file",
            Kind::Text("a path that ends in `.prom`", "^/.*\\.prom$"),
            Absent::Means("no file is written"),
            "Where `understudy run` writes its metrics: a file in the directory of node_exporter's textfile collector ([METRICS.md](METRICS.md)).",
            "\"/var/lib/prometheus/node-exporter/understudy.prom\"",
        ),
    ],
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "state_dir = \"/var/lib/understudy\"\nmetrics_file = \"/var/lib/prometheus/node-exporter/understudy.prom\"\n",
};

const EVENTS: &[Word] = &[
    ("failure", "a run failed"),
    ("success", "a run was done, or is good again"),
    ("recovery", "the first success after a failure"),
];

static NOTIFY: Page = Page {
    title: "[notify]",
    text: "Who is told what came of `understudy run` ([NOTIFY.md](NOTIFY.md)). None of these can make a run fail. An address may hold a token: with one in here, keep the file for its owner only (0600).",
    keys: NOTIFY_KEYS,
    one_of: &[],
    needs: &[],
    ways: &[],
    example: "on_failure = [\"/usr/local/sbin/page-me\"]\nwebhook = \"https://hooks.example/T0000\"\nwebhook_events = [\"failure\", \"recovery\"]\nmail = \"root\"\n",
};

const NOTIFY_KEYS: &[Key] = &[
    key(
        "on_failure",
        Kind::Program,
        Absent::Means("none is started"),
        "The program to start after a failure, without a shell. It finds what came in its environment, and as JSON on stdin.",
        "[\"/usr/local/sbin/page-me\"]",
    ),
    key(
        "on_success",
        Kind::Program,
        Absent::Means("none is started"),
        "The same after a success.",
        "[\"/usr/local/sbin/note-it\"]",
    ),
    key(
        "on_recovery",
        Kind::Program,
        Absent::Means("none is started"),
        "The same after the first success behind a failure.",
        "[\"/usr/local/sbin/page-me\"]",
    ),
    key(
        "webhook",
        Kind::Text("an address of the web", "^https?://[!-~]+$"),
        Absent::Means("nothing is posted"),
        "Where the JSON is posted to.",
        "\"https://hooks.example/T0000\"",
    ),
    key(
        "webhook_events",
        Kind::Words(EVENTS),
        Absent::Is("[\"failure\", \"success\", \"recovery\"]"),
        "After which runs it is posted.",
        "[\"failure\", \"recovery\"]",
    ),
    key(
        "ping",
        Kind::Text("an address of the web", "^https?://[!-~]+$"),
        Absent::Means("nothing is called"),
        "A dead man's switch: `/start` behind it is called when a run begins, `/fail` when it fails, and the address itself when it was good.",
        "\"https://hc-ping.com/00000000-0000-0000-0000-000000000000\"",
    ),
    key(
        "mail",
        Kind::Text("one or more addresses", "^ *[!-,.-~][ -~]*$"),
        Absent::Means("no mail is sent"),
        "Whom the local sendmail sends to.",
        "\"root\"",
    ),
    key(
        "mail_events",
        Kind::Words(EVENTS),
        Absent::Is("[\"failure\", \"recovery\"]"),
        "After which runs mail is sent.",
        "[\"failure\"]",
    ),
    key(
        "sendmail",
        Kind::Path,
        Absent::Is("\"/usr/sbin/sendmail\""),
        "The program that takes the mail.",
        "\"/usr/sbin/sendmail\"",
    ),
    key(
        "timeout",
        Kind::Duration,
        Absent::Is("\"10s\""),
        "How long each of them may take: from a second to five minutes.",
        "\"30s\"",
    ),
];
