//! What nsupdate and dig are told, and what dig answers. Pure.

use std::net::IpAddr;

use super::super::act::Record;

/// The zone and the name in it.
pub struct Name<'a> {
    pub server: &'a str,
    pub port: u16,
    pub zone: &'a str,
    pub name: &'a str,
    pub ipv4: bool,
}

impl Name<'_> {
    fn kind(&self) -> &'static str {
        match self.ipv4 {
            true => "A",
            false => "AAAA",
        }
    }

    pub fn dig_args(&self, limit_s: u64) -> Vec<String> {
        vec![
            format!("@{}", self.server),
            "-p".to_owned(),
            self.port.to_string(),
            "+norecurse".to_owned(),
            "+noall".to_owned(),
            "+comments".to_owned(),
            "+answer".to_owned(),
            format!("+time={limit_s}"),
            "+tries=1".to_owned(),
            "-q".to_owned(),
            format!("{}.", self.name),
            "-t".to_owned(),
            self.kind().to_owned(),
        ]
    }

    /// The records become these, in one update, if they are what was seen.
    pub fn update(&self, seen: &[Record], wanted: &[Record]) -> String {
        let mut lines = vec![format!("update delete {}. {}", self.name, self.kind())];
        lines.extend(wanted.iter().map(|record| {
            let Record { address, ttl_s } = record;
            format!(
                "update add {}. {ttl_s} IN {} {address}",
                self.name,
                self.kind()
            )
        }));
        self.script(seen, &lines)
    }

    /// An update that changes nothing, since what it deletes isn't there: may we?
    pub fn rehearsal(&self, seen: &[Record], absent: IpAddr) -> String {
        let kind = self.kind();
        let line = format!("update delete {}. IN {kind} {absent}", self.name);
        self.script(seen, &[line])
    }

    fn script(&self, seen: &[Record], updates: &[String]) -> String {
        let (name, kind) = (self.name, self.kind());
        let mut lines = vec![
            format!("server {} {}", self.server, self.port),
            format!("zone {}.", self.zone),
        ];
        match seen.is_empty() {
            true => lines.push(format!("prereq nxrrset {name}. IN {kind}")),
            false => lines.extend(
                seen.iter()
                    .map(|record| format!("prereq yxrrset {name}. IN {kind} {}", record.address)),
            ),
        }
        lines.extend_from_slice(updates);
        lines.push("send".to_owned());
        lines.push(String::new());
        lines.join("\n")
    }
}

/// The addresses of `name` in what dig answered, in an order of their own; the error is a fragment.
pub fn parse_answer(output: &str, name: &str) -> Result<Vec<Record>, String> {
    let word_after = |start: &str, end: char| {
        let rest = output.split_once(start)?.1;
        Some(rest.split(end).next().unwrap_or_default().trim())
    };
    let status = word_after("status: ", ',').ok_or("it doesn't answer")?;
    match status {
        "NOERROR" | "NXDOMAIN" => {}
        status => return Err(format!("it answers {status}")),
    }
    let flags = word_after(";; flags:", ';').unwrap_or_default();
    if !flags.split(' ').any(|flag| flag == "aa") {
        return Err("it isn't the zone's own (authoritative) server".to_owned());
    }
    let mut records = Vec::new();
    for line in output.lines().filter(|line| !line.starts_with(';')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields[..] {
            [owner, ttl, "IN", "A" | "AAAA", address] if is_name(owner, name) => {
                let parsed = ttl.parse().ok().zip(address.parse().ok());
                let (ttl_s, address) = parsed.ok_or_else(|| format!("it answers {line:?}"))?;
                records.push(Record { address, ttl_s });
            }
            [owner, _, "IN", "CNAME", target] if is_name(owner, name) => {
                return Err(format!("{name} is another name for {target}"));
            }
            _ => {}
        }
    }
    records.sort_by_key(|record| record.address);
    Ok(records)
}

fn is_name(owner: &str, name: &str) -> bool {
    owner.trim_end_matches('.').eq_ignore_ascii_case(name)
}

/// What nsupdate's refusals mean: a fragment and its cure.
pub fn explain(stderr: &str) -> (String, &'static str) {
    let said = stderr
        .lines()
        .map(|line| line.trim_start_matches("; "))
        .rfind(|line| !line.is_empty())
        .unwrap_or("nothing")
        .to_owned();
    let hint = match said.as_str() {
        s if s.contains("BADSIG") || s.contains("BADKEY") || s.contains("NOTAUTH") => {
            "The key isn't the one that the name server has under that name."
        }
        s if s.contains("BADTIME") => "The clocks of this host and of the name server differ.",
        s if s.contains("REFUSED") => {
            "Allow that key to change this name: `update-policy { grant KEY name NAME A AAAA; };`."
        }
        s if s.contains("XRRSET") => {
            "Somebody else changed the name since it was looked at; run it again."
        }
        s if s.contains("NOTZONE") => "The name isn't in that zone.",
        _ => "See the name server's log.",
    };
    (said, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! captured {
        ($name:literal) => {
            include_str!(concat!("../../../tests/fixtures/reroute/", $name))
        };
    }

    fn record(address: &str, ttl_s: u32) -> Record {
        let address = address.parse().unwrap();
        Record { address, ttl_s }
    }

    #[test]
    fn answers_are_read() {
        let answer = captured!("dig-9.18.47.answer");
        let one = parse_answer(answer, "db.lab.example").unwrap();
        assert_eq!(one, [record("192.0.2.1", 300)]);
        assert_eq!(parse_answer(answer, "other.lab.example").unwrap(), []);
        let none = captured!("dig-9.18.47.nxdomain");
        assert_eq!(parse_answer(none, "no.lab.example").unwrap(), []);
        for (output, expected) in [
            (captured!("dig-9.18.47.refused"), "it answers REFUSED"),
            (
                captured!("dig-9.18.47.alias"),
                "alias.lab.example is another name for db.lab.example.",
            ),
            ("", "it doesn't answer"),
            (
                &answer.replace("flags: qr aa;", "flags: qr ra;"),
                "it isn't the zone's own (authoritative) server",
            ),
        ] {
            let error = parse_answer(output, "alias.lab.example").unwrap_err();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn an_update_is_one_and_only_on_what_was_seen() {
        let name = Name {
            server: "192.0.2.53",
            port: 53,
            zone: "lab.example",
            name: "db.lab.example",
            ipv4: true,
        };
        let seen = [record("192.0.2.1", 300)];
        assert_eq!(
            name.update(&seen, &[record("192.0.2.2", 30)]),
            "server 192.0.2.53 53\nzone lab.example.\n\
             prereq yxrrset db.lab.example. IN A 192.0.2.1\n\
             update delete db.lab.example. A\n\
             update add db.lab.example. 30 IN A 192.0.2.2\nsend\n"
        );
        let script = name.rehearsal(&[], "192.0.2.2".parse().unwrap());
        assert!(script.contains("prereq nxrrset db.lab.example. IN A\n"));
        assert!(script.contains("update delete db.lab.example. IN A 192.0.2.2\nsend\n"));
    }

    #[test]
    fn refusals_of_nsupdate_9_18_47_have_their_cure() {
        for (stderr, said, cure) in [
            (
                "; TSIG error with server: tsig indicates error\nupdate failed: NOTAUTH(BADSIG)\n",
                "update failed: NOTAUTH(BADSIG)",
                "The key isn't",
            ),
            (
                "update failed: REFUSED\n",
                "update failed: REFUSED",
                "Allow",
            ),
            (
                "update failed: NXRRSET\n",
                "update failed: NXRRSET",
                "Somebody",
            ),
            (
                "; Communication with 127.0.0.1#23953 failed: connection refused\n",
                "Communication with 127.0.0.1#23953 failed: connection refused",
                "See",
            ),
        ] {
            let (found, hint) = explain(stderr);
            assert_eq!(found, said);
            assert!(hint.starts_with(cure), "{hint}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_is_a_panic(output in ".{0,200}") {
            drop(parse_answer(&output, "x"));
            drop(parse_answer(&format!("status: NOERROR,\n;; flags: aa;\n{output}"), "x"));
        }
    }
}
