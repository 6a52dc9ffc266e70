//! What is printed: aligned tables, a row as soon as it is measured, and the last line.

/// Whether figures keep their bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Within,
    Over,
}

impl Verdict {
    /// Over as soon as one is.
    pub(crate) fn and(self, other: Self) -> Self {
        if other == Self::Over { Self::Over } else { self }
    }

    pub(crate) fn of(figure: f64, bar: f64) -> Self {
        // Written this way round so that a figure that is no number is over.
        if figure <= bar { Self::Within } else { Self::Over }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Within => "ok",
            Self::Over => "OVER",
        }
    }
}

/// Pairs of neighbouring slices, floor and subject.
#[derive(Debug)]
pub(crate) struct Comparison {
    bar: f64,
    floor_us: Vec<f64>,
    subject_us: Vec<f64>,
    ratios: Vec<f64>,
}

impl Comparison {
    pub(crate) fn new(bar: f64) -> Self {
        Self { bar, floor_us: Vec::new(), subject_us: Vec::new(), ratios: Vec::new() }
    }

    pub(crate) fn push(&mut self, floor_us: f64, subject_us: f64) {
        self.floor_us.push(floor_us);
        self.subject_us.push(subject_us);
        self.ratios.push(subject_us / floor_us);
    }

    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::of(median(&self.ratios), self.bar)
    }

    /// The middle of what the subject took.
    pub(crate) fn subject_median(&self) -> f64 {
        median(&self.subject_us)
    }

    pub(crate) fn print(&self, cell: &str, backend: &str) {
        let lowest = self.ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = self.ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        println!(
            "{cell:<14} {backend:<9} {:>9.3} {:>9.3}  {:>6.3} [{lowest:.3} .. {highest:.3}]  \
             {:>5.2}  {}",
            median(&self.floor_us),
            median(&self.subject_us),
            median(&self.ratios),
            self.bar,
            self.verdict().word(),
        );
    }
}

/// Memory of one backend, per idle connection.
#[derive(Debug)]
pub(crate) struct MemoryRow {
    pub(crate) resident_bytes: f64,
    pub(crate) proportional_bytes: f64,
    pub(crate) slab_bytes: Option<f64>,
    pub(crate) bar_bytes: f64,
}

impl MemoryRow {
    pub(crate) fn verdict(&self) -> Verdict {
        Verdict::of(self.resident_bytes, self.bar_bytes)
    }

    pub(crate) fn print(&self, backend: &str) {
        let slab = self.slab_bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{bytes:.0}"));
        println!(
            "{backend:<9} {:>9.1} {:>9.1} {slab:>12} {:>6.0}  {}",
            self.resident_bytes,
            self.proportional_bytes,
            self.bar_bytes,
            self.verdict().word(),
        );
    }
}

pub(crate) fn print_comparison_head(subject: &str, unit: &str) {
    println!("{:<14} {:<9} {unit:>19}", "", "");
    println!(
        "{subject:<14} {:<9} {:>9} {:>9}  {:>6} {:<18}  {:>5}",
        "backend", "floor", "longwire", "ratio", "[lowest .. highest]", "bar"
    );
}

pub(crate) fn print_memory_head(count: usize) {
    println!("bytes per connection, {count} idle WebSocket connections");
    println!(
        "{:<9} {:>9} {:>9} {:>12} {:>6}",
        "backend", "resident", "share", "kernel slab", "bar"
    );
}

pub(crate) fn print_memory_notes() {
    println!(
        "resident: growth of the server's Rss; share: of its Pss, shared pages divided.\n\
         kernel slab: growth of the live objects of all slab caches of the machine. It holds both\n\
         ends of each loopback connection, and the server's registration; '-' without root."
    );
}

pub(crate) fn print_idle_head(count: usize) {
    println!("resident bytes per connection, {count} idle connections that have had one answer");
    println!("{:<9} {:<9} {:>9} {:>6}", "speaks", "backend", "resident", "bar");
}

/// Prints a row, and judges it if there is a bar.
pub(crate) fn print_idle(speech: &str, backend: &str, bytes: f64, bar: Option<f64>) -> Verdict {
    let verdict = bar.map_or(Verdict::Within, |bar| Verdict::of(bytes, bar));
    let judged = bar.map_or_else(String::new, |bar| format!(" {bar:>6.0}  {}", verdict.word()));
    println!("{speech:<9} {backend:<9} {bytes:>9.1}{judged}");
    verdict
}

pub(crate) fn print_verdict(verdict: Verdict) {
    match verdict {
        Verdict::Within => println!("every figure is within its bar"),
        Verdict::Over => println!("at least one figure is over its bar"),
    }
}

/// The middle of them.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.len() % 2, sorted.get(middle), sorted.get(middle.wrapping_sub(1))) {
        (1, Some(&upper), _) => upper,
        (0, Some(&upper), Some(&lower)) => f64::midpoint(lower, upper),
        _ => f64::NAN,
    }
}
