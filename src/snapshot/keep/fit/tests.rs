use super::*;
use crate::journal::receipt::Lost as LostOnes;

const U: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

fn mysql(executed: &str) -> Result<History, String> {
    Ok(History {
        source: "b".to_owned(),
        executed: GtidSet::parse_mysql(executed).unwrap(),
        applied: None,
    })
}

fn mariadb(state: &str, applied: &str) -> Result<History, String> {
    Ok(History {
        source: "b".to_owned(),
        executed: GtidSet::parse_mariadb(state).unwrap(),
        applied: Some(MariadbGtidPos::parse(applied).unwrap()),
    })
}

fn at(gtid: &str) -> Stand<'_> {
    Stand {
        gtid,
        created: "2026-11-27T02:00:00Z".parse().unwrap(),
        pair: "lab",
        server: "a",
        written: "",
        identity: "1@a:3306",
        has_several: false,
    }
}

fn open(operation: &str, at: &str, gtid: &str) -> Past {
    let receipt = Receipt {
        operation: operation.to_owned(),
        at: at.to_owned(),
        pair: "lab".to_owned(),
        old_source: "a".to_owned(),
        new_source: "b".to_owned(),
        gtid: gtid.to_owned(),
        lost: LostOnes::nothing(),
    };
    Past {
        receipt,
        settled: None,
    }
}

/// Its old source followed again on the 29th.
fn settled(gtid: &str, lost: &str) -> Past {
    let mut past = open("failover", "2026-11-28T00:00:00.000Z", gtid);
    past.settled = Some("2026-11-29T00:00:00.000Z".to_owned());
    past.receipt.lost.gtid = lost.to_owned();
    past
}

/// `fits`, `2 0-1-12` or `?`
fn short(fit: &Fit) -> String {
    match fit {
        Fit::Fits => "fits".to_owned(),
        Fit::Ahead(ahead) => format!("{} {}", ahead.transactions, ahead.gtid),
        Fit::Unknown(_) => "?".to_owned(),
    }
}

#[test]
fn mysql_by_its_sets() {
    let source = mysql(&format!("{U}:1-10"));
    let judged = |own: &str| short(&judge(at(own), &source, &[]));
    assert_eq!(judged(&format!("{U}:1-10")), "fits");
    assert_eq!(judged(&format!("{U}:1-12")), format!("2 {U}:11-12"));
    assert_eq!(judged(""), "?");
    assert_eq!(judged("0-1-5"), "?", "of the other flavour");
}

#[test]
fn mariadb_by_who_wrote_what() {
    let source = mariadb("0-1-100,0-2-130,1-1-7", "0-3-90");
    for (own, expected) in [
        ("0-1-100", "fits"),
        ("0-2-130,1-1-7", "fits"),
        ("0-3-90", "fits"),
        // Number 105 is there, and it is another transaction.
        ("0-1-105", "5 0-1-105"),
        ("0-2-133,1-1-7", "3 0-2-133"),
        ("0-2-131,1-1-9", "3 0-2-131,1-1-9"),
        ("4-1-3", "3 4-1-3"),
        ("0-9-140", "10 0-9-140"),
        // Of a server that it never heard of, in between: nobody knows.
        ("0-9-50", "?"),
        (&format!("{U}:1-10"), "?"),
    ] {
        assert_eq!(short(&judge(at(own), &source, &[])), expected, "{own}");
    }
}

/// A replica's position doesn't tell what was written to it; the state of its binary log does.
#[test]
fn what_was_written_to_a_replica_counts() {
    let source = mariadb("0-2-130", "");
    let judged = |written: &str, identity: &str, has_several: bool| {
        let stand = Stand {
            written,
            identity,
            has_several,
            ..at("0-2-100")
        };
        short(&judge(stand, &source, &[]))
    };
    assert_eq!(judged("0-2-100,0-3-101", "3@c:3306", false), "1 0-3-101");
    // Another server's history, of before the source's binary log.
    assert_eq!(judged("0-2-100,0-9-50", "3@c:3306", false), "fits");
    assert_eq!(judged("0-2-100,0-9-150", "3@c:3306", false), "20 0-9-150");
    // Another source's.
    assert_eq!(judged("0-2-100,5-9-150", "3@c:3306", true), "fits");
    assert_eq!(judged("0-2-100,5-3-7", "3@c:3306", true), "7 5-3-7");
}

#[test]
fn receipts_name_the_failover() {
    let receipts = [
        open("failover-early", "2026-11-26T00:00:00.000Z", "0-1-50"),
        open("failover-late", "2026-11-28T00:00:00.000Z", "0-1-100"),
    ];
    let source = mariadb("0-1-100,0-2-130", "");
    let Fit::Ahead(ahead) = judge(at("0-1-105"), &source, &receipts) else {
        panic!("it is ahead");
    };
    assert_eq!(ahead.lost_in.unwrap().operation, "failover-late");
    let Fit::Ahead(ahead) = judge(at("0-1-105"), &source, &receipts[..1]) else {
        panic!("it is ahead");
    };
    assert_eq!(ahead.lost_in.unwrap().operation, "failover-early");
}

#[test]
fn without_the_source_a_receipt_still_proves_what_is_older() {
    let away = || Err("b isn't reachable".to_owned());
    let receipts = [open("failover", "2026-11-28T00:00:00.000Z", "0-1-100")];
    assert_eq!(judge(at("0-1-99"), &away(), &receipts), Fit::Fits);
    assert_eq!(
        judge(at("0-1-101"), &away(), &receipts),
        Fit::Unknown("b isn't reachable".to_owned())
    );
    assert_eq!(short(&judge(at("0-1-99"), &away(), &[])), "?");
}

/// The old source follows again, becomes the source once more, and numbers go on where they were.
#[test]
fn gtids_that_were_given_twice_are_told_apart() {
    let source = mariadb("0-2-130,0-1-150", "");
    let before = [settled("0-1-100", "0-1-105")];
    assert_eq!(short(&judge(at("0-1-105"), &source, &before)), "5 0-1-105");
    assert_eq!(short(&judge(at("0-1-100"), &source, &before)), "fits");
    assert_eq!(short(&judge(at("0-2-130"), &source, &before)), "fits");
    let later = Stand {
        created: "2026-11-30T00:00:00Z".parse().unwrap(),
        ..at("0-1-104")
    };
    assert_eq!(short(&judge(later, &source, &before)), "fits");

    let source = mysql(&format!("{U}:1-20"));
    let before = [settled(&format!("{U}:1-10"), &format!("{U}:11-12"))];
    let ahead = format!("1 {U}:11");
    assert_eq!(
        short(&judge(at(&format!("{U}:1-11")), &source, &before)),
        ahead
    );
    assert_eq!(
        short(&judge(at(&format!("{U}:1-10")), &source, &before)),
        "fits"
    );
}
