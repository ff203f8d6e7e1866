//! Prometheus' text format: each metric once, with its help and type, then its samples.

use std::fmt::Write as _;

/// A gauge and its help; what is measured in which unit stands in the name.
pub type Metric = (&'static str, &'static str);

/// What is to be exposed, in the order of its declaration.
pub struct Exposition {
    metrics: &'static [Metric],
    samples: Vec<(&'static str, String)>,
}

impl Exposition {
    pub fn of(metrics: &'static [Metric]) -> Self {
        Self {
            metrics,
            samples: Vec::new(),
        }
    }

    /// Adds a sample; what isn't known has none.
    pub fn add(&mut self, name: &'static str, labels: &[(&str, &str)], value: Option<f64>) {
        debug_assert!(
            self.metrics.iter().any(|(known, _)| *known == name),
            "{name}"
        );
        let Some(value) = value else { return };
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        self.samples.push((name, format!("{name}{labels} {value}")));
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for (name, help) in self.metrics {
            let samples = self.samples.iter().filter(|(of, _)| of == name);
            let mut samples = samples.map(|(_, line)| line.as_str()).peekable();
            if samples.peek().is_none() {
                continue;
            }
            // Writing to a String can't fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n");
            for line in samples {
                let _ = writeln!(text, "{line}");
            }
        }
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_metric_stands_once_with_all_its_samples() {
        const METRICS: &[Metric] = &[("a_seconds", "A."), ("b", "B."), ("c", "C.")];
        let mut exposition = Exposition::of(METRICS);
        exposition.add("b", &[("of", "x\"\\\ny")], Some(1.0));
        exposition.add("a_seconds", &[], Some(0.25));
        exposition.add("b", &[("of", "z"), ("in", "p")], Some(3e10));
        exposition.add("c", &[], None);
        assert_eq!(
            exposition.text(),
            "# HELP a_seconds A.\n# TYPE a_seconds gauge\na_seconds 0.25\n\
             # HELP b B.\n# TYPE b gauge\nb{of=\"x\\\"\\\\\\ny\"} 1\nb{of=\"z\",in=\"p\"} 30000000000\n"
        );
    }
}
