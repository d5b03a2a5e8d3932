//! Findings and how they are told.

use std::fmt;

use serde::Serialize;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// It is as it should be.
    Ok,
    /// A broker or proxy runs with it, worse than it could.
    Warning,
    /// None runs with it, or must.
    Problem,
}

/// Something that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    part: String,
    status: Status,
    /// What was found.
    found: String,
    #[serde(flatten)]
    trouble: Option<Trouble>,
}

/// What is to be said of a finding that is not fine.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trouble {
    /// Where it comes from.
    pub(super) cause: String,
    /// What it does to a broker or proxy.
    pub(super) effect: String,
    /// What helps.
    pub(super) fix: String,
}

/// All findings, in the order in which they were made.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// Notes something that is as it should be.
    pub(super) fn fine(&mut self, part: &str, found: impl Into<String>) {
        self.add(part, Status::Ok, found.into(), None);
    }

    /// Notes something that can be lived with.
    pub(super) fn warn(&mut self, part: &str, found: impl Into<String>, trouble: Trouble) {
        self.add(part, Status::Warning, found.into(), Some(trouble));
    }

    /// Notes something that cannot.
    pub(super) fn problem(&mut self, part: &str, found: impl Into<String>, trouble: Trouble) {
        self.add(part, Status::Problem, found.into(), Some(trouble));
    }

    fn add(&mut self, part: &str, status: Status, found: String, trouble: Option<Trouble>) {
        self.findings.push(Finding { part: part.to_owned(), status, found, trouble });
    }

    /// Whether there is no problem.
    pub(super) fn is_healthy(&self) -> bool {
        self.findings.iter().all(|finding| finding.status != Status::Problem)
    }

    /// The findings as one JSON object.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts are always written as JSON")
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { part, status, found, trouble } in &self.findings {
            let status = match status {
                Status::Ok => "ok",
                Status::Warning => "warning",
                Status::Problem => "problem",
            };
            writeln!(f, "{status:<8} {part}: {found}")?;
            if let Some(Trouble { cause, effect, fix }) = trouble {
                for (label, text) in [("cause", cause), ("effect", effect), ("fix", fix)] {
                    writeln!(f, "         {label:<6}  {text}")?;
                }
            }
        }
        let count = |status| self.findings.iter().filter(|it| it.status == status).count();
        let (problems, warnings) = (count(Status::Problem), count(Status::Warning));
        writeln!(f, "{problems} problems, {warnings} warnings")
    }
}

/// The shorthand of a finding's explanation.
pub(super) fn trouble(
    cause: impl Into<String>,
    effect: impl Into<String>,
    fix: impl Into<String>,
) -> Trouble {
    Trouble { cause: cause.into(), effect: effect.into(), fix: fix.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_told_as_text_and_as_json() {
        let mut report = Report::default();
        report.fine("disk", "fast");
        report.warn("listener A", "far", trouble("c1", "e1", "f1"));
        assert!(report.is_healthy());
        report.problem("bucket", "gone", trouble("c2", "e2", "f2"));
        assert!(!report.is_healthy());
        let text = "ok       disk: fast\n\
            warning  listener A: far\n\
            \x20        cause   c1\n         effect  e1\n         fix     f1\n\
            problem  bucket: gone\n         cause   c2\n         effect  e2\n         fix     f2\n\
            1 problems, 1 warnings\n";
        assert_eq!(report.to_string(), text);
        let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(
            json["findings"][0],
            serde_json::json!({
                "part": "disk", "status": "ok", "found": "fast"
            })
        );
        assert_eq!(
            json["findings"][2],
            serde_json::json!({
                "part": "bucket", "status": "problem", "found": "gone",
                "cause": "c2", "effect": "e2", "fix": "f2"
            })
        );
    }
}
