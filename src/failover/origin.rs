//! What of a server's transactions comes from its pair: a replica may follow servers outside of it too,
//! and what they wrote makes nobody a better candidate. No effects.

use crate::server::gtid::{GtidSet, SourceUuid};
use crate::server::replication::{Channel, ChannelName};

/// A set without what comes by other channels than `link`. Where they don't tell whose transactions
/// they bring, all of it stays.
pub fn of_pair(set: &GtidSet, channels: &[Channel], link: &ChannelName) -> GtidSet {
    let (own, others): (Vec<&Channel>, Vec<&Channel>) =
        channels.iter().partition(|channel| channel.name == *link);
    if own.is_empty() || others.is_empty() {
        return set.clone();
    }
    match set {
        GtidSet::Mysql(set) => {
            let own = sources(&own);
            let outside: Vec<SourceUuid> = sources(&others)
                .into_iter()
                .filter(|source| !own.contains(source))
                .collect();
            GtidSet::Mysql(set.without_sources(&outside))
        }
        GtidSet::Mariadb(position) => {
            let ids = |among: &[&Channel]| -> Vec<u32> {
                let ids = among.iter().filter_map(|channel| channel.source_server_id);
                ids.collect()
            };
            let own = ids(&own);
            let outside: Vec<u32> = ids(&others)
                .into_iter()
                .filter(|id| !own.contains(id))
                .collect();
            GtidSet::Mariadb(position.without_servers(&outside))
        }
    }
}

/// Of all that channels have received, and of whom they follow.
fn sources(channels: &[&Channel]) -> Vec<SourceUuid> {
    let mut sources = Vec::new();
    for channel in channels {
        let met = channel.source_uuid.as_deref();
        sources.extend(met.and_then(SourceUuid::parse));
        if let Ok(GtidSet::Mysql(received)) = GtidSet::parse_mysql(&channel.received) {
            sources.extend(received.sources());
        }
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::replication::parse_channels;
    use crate::server::row::Row;

    fn uuid(id: u32) -> String {
        format!("{id:08}-0000-0000-0000-000000000000")
    }

    fn channel(name: &str, id: u32, received: &str) -> Channel {
        let (uuid, id) = (uuid(id), id.to_string());
        let row = Row::of([
            ("Channel_Name", Some(name)),
            ("Source_UUID", Some(uuid.as_str())),
            ("Source_Server_Id", Some(id.as_str())),
            ("Retrieved_Gtid_Set", Some(received)),
        ]);
        parse_channels(&[row]).remove(0)
    }

    #[test]
    fn what_comes_from_elsewhere_is_left_out() {
        let [one, two, three] = [1, 2, 3].map(uuid);
        let channels = [
            channel("lab", 1, &format!("{one}:1-9")),
            channel("east", 2, &format!("{two}:1-4,{three}:1-3")),
        ];
        let set = GtidSet::parse_mysql(&format!("{one}:1-9,{two}:1-4,{three}:1-2")).unwrap();
        let of = |link: &str| of_pair(&set, &channels, &ChannelName::from(link)).to_line();
        assert_eq!(of("lab"), format!("{one}:1-9"));
        assert_eq!(of("nowhere"), set.to_line());

        let position = GtidSet::parse_mariadb("0-1-9,7-2-4,8-5-2").unwrap();
        let own = of_pair(&position, &channels, &ChannelName::from("lab"));
        assert_eq!(own.to_line(), "0-1-9,8-5-2");
        let alone = of_pair(&position, &channels[..1], &ChannelName::from("lab"));
        assert_eq!(alone, position);
    }
}
