use super::*;
use crate::config::TlsMode;
use crate::replication::account;
use crate::server::replication::parse_channels;
use crate::server::row::Row;

const S: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
const R: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

/// A server that has nothing in its way.
fn side(version: &str, name: &str, server_id: u32) -> Side {
    let flavour = Flavour::of_version(version);
    let is_mariadb = flavour.is_mariadb();
    let settings = [
        ("log_bin", "ON"),
        ("log_slave_updates", "ON"),
        ("binlog_format", "ROW"),
        ("gtid_mode", "ON"),
        ("lower_case_table_names", "0"),
        ("max_allowed_packet", "16777216"),
        ("slave_max_allowed_packet", "1073741824"),
        ("read_only", "OFF"),
    ];
    let uuid = if name == "db1" { S } else { R };
    Side {
        name: name.to_owned(),
        flavour,
        identity: Identity {
            server_uuid: (!is_mariadb).then(|| uuid.to_owned()),
            server_id,
            hostname: name.to_owned(),
            port: 3306,
            ..Identity::default()
        },
        tls: TlsMode::Disabled,
        settings: settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        schemas: Vec::new(),
        non_transactional: Vec::new(),
        active_events: 0,
        runs_events_at_boot: false,
        links: Vec::new(),
        written: String::new(),
        by_origin: String::new(),
        applied: String::new(),
        purged: String::new(),
        free: Fact::Known(1 << 40),
        is_local: true,
        restarts: true,
        has_service: true,
        login: Account::of_current_user("us@%"),
        may: BTreeSet::from(["SELECT".to_owned(), "GRANT OPTION".to_owned()]),
        may_on_source: Some(BTreeSet::from([
            "GRANT OPTION".to_owned(),
            "RELOAD".to_owned(),
            "SELECT".to_owned(),
        ])),
    }
}

fn schema(name: &str, bytes: u64) -> Schema {
    Schema {
        name: name.to_owned(),
        tables: 3,
        bytes,
    }
}

fn link(host: &str, id: u32, uuid: &str) -> Channel {
    let row = Row::of([
        ("Source_Host", Some(host)),
        ("Source_Port", Some("3306")),
        ("Source_User", Some(account::USER)),
        ("Auto_Position", Some("1")),
        ("Source_UUID", Some(uuid)),
        ("Source_Server_Id", Some(id.to_string().as_str())),
        ("Replica_IO_Running", Some("Yes")),
        ("Replica_SQL_Running", Some("Yes")),
    ]);
    parse_channels(&[row]).remove(0)
}

fn pair(version: &str) -> (Side, Side) {
    let mut source = side(version, "db1", 1);
    source.schemas.push(schema("lab", 1 << 30));
    match source.flavour.is_mariadb() {
        true => {
            source.written = "0-1-100".to_owned();
            source.by_origin = "0-1-100".to_owned();
        }
        false => source.written = format!("{S}:1-100"),
    }
    (source, side(version, "db2", 2))
}

fn wish(provision: Option<Provision>) -> Wish {
    Wish {
        provision,
        ..Wish::default()
    }
}

fn decide(source: &Side, replica: &Side, wish: &Wish) -> Result<Plan, Vec<Refusal>> {
    let endpoint = Fact::Known(("db1".to_owned(), 3306));
    plan(source, replica, &endpoint, wish)
}

#[track_caller]
fn refused(source: &Side, replica: &Side, wish: &Wish) -> String {
    let refusals = decide(source, replica, wish).expect_err("it is refused");
    assert!(
        refusals
            .iter()
            .all(|refusal| refusal.hint.ends_with(['.', ')']))
    );
    refusals
        .iter()
        .map(|refusal| refusal.reason.as_str())
        .collect::<Vec<_>>()
        .join("; ")
}

const VERSIONS: [&str; 2] = ["10.11.19-MariaDB x", "9.7.1 x"];

#[test]
fn fresh_servers_need_no_provisioning_while_the_logs_are_whole() {
    for version in VERSIONS {
        let (mut source, replica) = pair(version);
        let plan = decide(&source, &replica, &wish(None)).unwrap();
        assert_eq!(plan.provision, Provision::Nothing);
        assert_eq!(plan.linked, Linked::No);
        assert!(
            plan.erases.is_empty() && plan.warnings.is_empty(),
            "{plan:?}"
        );

        source.purged = match source.flavour.is_mariadb() {
            true => "0-1-50".to_owned(),
            false => format!("{S}:1-50"),
        };
        for wish in [wish(None), wish(Some(Provision::Nothing))] {
            assert!(refused(&source, &replica, &wish).contains("purged"));
        }
        let plan = decide(&source, &replica, &wish(Some(Provision::Dump))).unwrap();
        assert_eq!(plan.provision, Provision::Dump);
        // A former copy goes on from where it is.
        let mut former = replica.clone();
        former.schemas.push(schema("lab", 1));
        match source.flavour.is_mariadb() {
            true => former.applied = "0-1-60".to_owned(),
            false => {
                former.applied = format!("{S}:1-60");
                former.written.clone_from(&former.applied);
            }
        }
        let plan = decide(&source, &former, &wish(None)).unwrap();
        assert_eq!(plan.provision, Provision::Nothing);
        assert!(refused(&source, &former, &wish(Some(Provision::Dump))).contains("has data"));
    }
}

#[test]
fn own_data_goes_only_when_told() {
    for version in VERSIONS {
        let (source, mut replica) = pair(version);
        replica.schemas.push(schema("mine", 5));
        for provision in [None, Some(Provision::Nothing), Some(Provision::Dump)] {
            assert!(refused(&source, &replica, &wish(provision)).contains("mine"));
        }
        let told = Wish {
            provision: Some(Provision::Dump),
            replace: true,
            ..Wish::default()
        };
        let plan = decide(&source, &replica, &told).unwrap();
        assert_eq!(plan.erases, ["schema mine (3 tables)"]);
    }
}

#[test]
fn transactions_of_its_own_are_seen_by_origin() {
    // A domain's last number says nothing: 5 is less than 100, and yet another server's.
    let (source, mut replica) = pair(VERSIONS[0]);
    replica.by_origin = "0-2-5".to_owned();
    assert!(refused(&source, &replica, &wish(None)).contains("0-2-5"));
    replica.by_origin = "0-1-5".to_owned();
    replica.applied = "0-1-5".to_owned();
    assert!(decide(&source, &replica, &wish(None)).is_ok());

    let (source, mut replica) = pair(VERSIONS[1]);
    replica.written = format!("{S}:1-5,{R}:1");
    assert!(refused(&source, &replica, &wish(None)).contains(&format!("{R}:1")));
}

#[test]
fn who_follows_already_is_left_alone() {
    for version in VERSIONS {
        let (source, mut replica) = pair(version);
        replica.schemas.push(schema("lab", 1));
        replica.links.push(link("elsewhere", 1, S));
        let plan = decide(&source, &replica, &wish(Some(Provision::Dump))).unwrap();
        assert_eq!(plan.provision, Provision::Nothing);
        assert!(matches!(plan.linked, Linked::AsWanted(_)));

        replica.links[0].user = "repl".to_owned();
        let plan = decide(&source, &replica, &wish(None)).unwrap();
        assert_eq!(plan.warnings[0].rule, "other-account");

        replica.links = vec![link("db9", 9, "another-uuid")];
        assert!(refused(&source, &replica, &wish(None)).contains("db9:3306"));
    }
}

#[test]
fn a_servers_number_alone_makes_no_source_of_it() {
    for (version, is_it) in [(VERSIONS[0], false), (VERSIONS[1], true)] {
        let (source, mut replica) = pair(version);
        replica.links.push(link("elsewhere", 1, S));
        replica.links[0].source_port = 3999;
        let answer = decide(&source, &replica, &wish(None));
        assert_eq!(answer.is_ok(), is_it, "{version}: {answer:?}");
        // Through a forwarded port that the configuration names.
        let endpoint = Fact::Known(("elsewhere".to_owned(), 3999));
        let plan = plan(&source, &replica, &endpoint, &wish(None)).unwrap();
        assert!(matches!(plan.linked, Linked::AsWanted(_)), "{version}");
    }
}

/// A spoilt pair, and what the refusal names.
type Spoilt = (&'static str, fn(&mut Side, &mut Side), &'static str);

#[test]
fn what_cannot_replicate_is_refused() {
    let cases: [Spoilt; 12] = [
        (
            VERSIONS[1],
            |s, _| s.flavour = Flavour::of_version("5.7.40 x"),
            "can't log in",
        ),
        (
            VERSIONS[1],
            |s, _| put(s, "log_bin", "OFF"),
            "no binary log",
        ),
        (
            VERSIONS[1],
            |s, _| put(s, "binlog_format", "STATEMENT"),
            "statements",
        ),
        (VERSIONS[1], |s, _| put(s, "read_only", "ON"), "read-only"),
        (VERSIONS[1], |_, r| put(r, "gtid_mode", "OFF"), "gtid_mode"),
        (
            VERSIONS[0],
            |_, r| put(r, "lower_case_table_names", "1"),
            "lower_case",
        ),
        (
            VERSIONS[0],
            |_, r| r.identity.server_id = 1,
            "same server_id",
        ),
        (VERSIONS[0], |_, r| r.identity.server_id = 0, "no server_id"),
        (
            VERSIONS[1],
            |_, r| r.identity.server_uuid = Some(S.to_owned()),
            "same server_uuid",
        ),
        (
            VERSIONS[0],
            |_, r| put(r, "max_allowed_packet", "1024"),
            "less than",
        ),
        (
            VERSIONS[1],
            |_, r| r.flavour = Flavour::of_version("8.4.1 x"),
            "older than its source",
        ),
        (
            VERSIONS[0],
            |_, r| r.flavour = Flavour::of_version("9.7.1 x"),
            "can't be followed",
        ),
    ];
    for (version, spoil, words) in cases {
        let (mut source, mut replica) = pair(version);
        spoil(&mut source, &mut replica);
        let reason = refused(&source, &replica, &wish(None));
        assert!(reason.contains(words), "{words}: {reason}");
    }
}

fn put(side: &mut Side, name: &str, value: &str) {
    side.settings.insert(name.to_owned(), value.to_owned());
}

#[test]
fn a_provisioning_needs_room_and_what_it_works_with() {
    let (mut source, mut replica) = pair(VERSIONS[1]);
    replica.free = Fact::Known(1 << 29);
    let dump = wish(Some(Provision::Dump));
    assert!(refused(&source, &replica, &dump).contains("MiB free"));
    replica.free = Fact::unknown("it is elsewhere");
    let plan = decide(&source, &replica, &dump).unwrap();
    assert_eq!(plan.warnings[0].rule, "disk-space");

    source.non_transactional = vec![("lab".to_owned(), "m".to_owned())];
    assert!(refused(&source, &replica, &dump).contains("lab.m"));
    let locked = Wish {
        lock_source: true,
        ..dump
    };
    assert!(decide(&source, &replica, &locked).is_ok());

    let clone = wish(Some(Provision::Clone));
    assert!(decide(&source, &replica, &clone).is_ok());
    // The accounts come along: we must still be somebody.
    let may = |text: &str| Some(text.split(", ").map(str::to_owned).collect());
    for (theirs, said) in [
        (None, "us@%, as which we log in to db2, doesn't exist"),
        (may("SELECT"), "(not GRANT OPTION)"),
        (may("ALL PRIVILEGES"), "(not GRANT OPTION)"),
        (may("ALL PRIVILEGES, GRANT OPTION"), ""),
    ] {
        let mut replica = replica.clone();
        replica.may_on_source = theirs;
        match said {
            "" => assert!(decide(&source, &replica, &clone).is_ok()),
            said => assert!(refused(&source, &replica, &clone).contains(said), "{said}"),
        }
        assert!(
            decide(&source, &replica, &locked).is_ok(),
            "a dump leaves it"
        );
    }
    replica.restarts = false;
    assert!(refused(&source, &replica, &clone).contains("nothing starts"));
    replica.has_service = false;
    let snapshot = wish(Some(Provision::Snapshot("x".to_owned())));
    assert!(refused(&source, &replica, &snapshot).contains("no service"));
}

#[test]
fn the_account_is_as_narrow_as_can_be_told() {
    let known = Fact::Known("10.0.0.7".to_owned());
    let host = |given, loopback, address: &Fact<String>| account_host(given, loopback, address).0;
    assert_eq!(host(Some("10.%"), true, &known), "10.%");
    assert_eq!(host(None, true, &known), "127.0.0.1");
    assert_eq!(host(None, false, &known), "10.0.0.7");
    let (host, warning) = account_host(None, false, &Fact::unknown("several"));
    assert_eq!((host.as_str(), warning.is_some()), ("%", true));
}
