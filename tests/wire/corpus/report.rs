//! What came of it, as a table.

use super::{
    case::{Family, Run},
    judge::Breach,
};

/// How many breaches are told of one family.
const TOLD: usize = 12;

/// What came of one family.
#[derive(Debug)]
pub(super) struct Row {
    family: Family,
    cases: usize,
    pub(super) runs: usize,
    /// How many of them reached an upstream.
    reached: usize,
    /// With the run that did it, where one is known.
    pub(super) breaches: Vec<(Breach, Option<Run>)>,
    /// How many cases break a rule where nginx stands in our place.
    pub(super) nginx: Option<usize>,
}

impl Row {
    pub(super) fn new(family: Family, cases: usize) -> Self {
        Self { family, cases, runs: 0, reached: 0, breaches: Vec::new(), nginx: None }
    }

    /// Counts `runs` that came to `breaches`, `reached` of them through to an upstream.
    pub(super) fn add(&mut self, runs: &[Run], breaches: Vec<Breach>, reached: usize) {
        self.runs += runs.len();
        self.reached += reached;
        let named = breaches.into_iter().map(|breach| {
            let run = runs.iter().find(|run| Some(run.number) == breach.run).cloned();
            (breach, run)
        });
        self.breaches.extend(named);
    }

    fn told(&self) {
        for (breach, run) in self.breaches.iter().take(TOLD) {
            println!("\n{} {}: {}", self.family, breach.rule, shortened(&breach.what));
            if let Some(run) = run {
                println!("  case: {}\n  sent: {}", run.case.name, shortened(&run.sent.escape_ascii().to_string()));
            }
        }
        if self.breaches.len() > TOLD {
            println!("\n{}: and {} more", self.family, self.breaches.len() - TOLD);
        }
    }
}

fn shortened(text: &str) -> String {
    let cut: String = text.chars().take(1500).collect();
    if cut.len() < text.len() { format!("{cut} … ({} bytes)", text.len()) } else { cut }
}

/// Prints every breach and the table, and fails if there is a breach.
pub(super) fn conclude(rows: &[Row]) {
    rows.iter().for_each(Row::told);
    println!(
        "\n| family | cases | runs | forwarded | hard failures | nginx: cases that break a rule |\n|---|---:|---:|---:|---:|---:|"
    );
    for row in rows {
        let nginx = row.nginx.map_or("–".to_owned(), |count| count.to_string());
        println!(
            "| {} | {} | {} | {} | {} | {nginx} |",
            row.family,
            row.cases,
            row.runs,
            row.reached,
            row.breaches.len()
        );
    }
    let sum = |count: fn(&Row) -> usize| rows.iter().map(count).sum::<usize>();
    let failures = sum(|row| row.breaches.len());
    let [cases, runs, reached] = [sum(|row| row.cases), sum(|row| row.runs), sum(|row| row.reached)];
    println!("| all | {cases} | {runs} | {reached} | {failures} | |");
    assert_eq!(failures, 0, "hard failures; each is told above");
}
