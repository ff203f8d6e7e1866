//! stand-in until the branch is merged
use crate::config::KeepRules;
pub enum ProofRank {
    Failed,
    Taken,
    Booted,
    Checked,
}
pub struct Candidate {
    pub id: String,
    pub created: jiff::Timestamp,
    pub proof: ProofRank,
    pub held: bool,
    pub complete: bool,
}
pub struct Decision {
    pub id: String,
    pub keep: bool,
    pub reasons: Vec<String>,
}
pub fn plan_prune(
    _c: &[Candidate],
    _r: &KeepRules,
    _n: jiff::Timestamp,
    _z: &jiff::tz::TimeZone,
) -> Vec<Decision> {
    vec![]
}
