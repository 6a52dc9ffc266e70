//! One line chart as inline SVG: axes, grid, lines and the legend beside it.
//!
//! It needs no script and no font of its own. Colours are classes (`s0`, `s1`, `s2`) that the style
//! sheet of the page defines for light, dark and print; lines also differ by their dashes. Everything
//! is drawn in a fixed box, which the page scales.
//!
//! INVARIANT: every number written is finite and inside the box; what cannot be is left out.

use std::fmt::Write as _;

use crate::report::Unit;
use crate::show::html::escape;
use crate::units;

/// The box that the page scales; on a phone it is about as wide as the screen.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 236.0;
/// Of the plot inside the box. The left margin holds the widest tick, such as `1023 MiB`.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 426.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 190.0;

/// Above this ratio of largest to smallest, a linear axis shows only the largest.
const LOG_FROM_RATIO: f64 = 20.0;

/// What to draw.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    pub(crate) x: XAxis,
    /// Of all the series.
    pub(crate) y_unit: Unit,
    /// Such as "messages per second".
    pub(crate) y_label: &'a str,
    /// At most three have a look of their own.
    pub(crate) series: Vec<Series<'a>>,
}

/// What runs from left to right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XAxis {
    /// Seconds since the start of the run.
    Time,
    /// Percentiles from 0 to 100, on a log scale of 1 / (1 - p).
    Percentile,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Series<'a> {
    pub(crate) name: &'a str,
    /// In order of x; None breaks the line.
    pub(crate) points: Vec<(f64, Option<f64>)>,
}

/// How a value becomes a place.
#[derive(Clone, Copy, Debug)]
struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    from: f64,
    to: f64,
}

impl Chart<'_> {
    /// The chart with its title and legend; None if there is nothing to draw.
    pub(crate) fn render(&self) -> Option<String> {
        let x = self.x_scale()?;
        let y = self.y_scale()?;
        let title = escape(self.title);
        let mut svg = format!(
            "<figure class=\"chart\"><figcaption>{title}</figcaption>{}<svg viewBox=\"0 0 {WIDTH} \
             {HEIGHT}\" role=\"img\" aria-label=\"{title}\">",
            self.legend()
        );
        self.push_y_axis(&mut svg, y);
        self.push_x_axis(&mut svg, x);
        for (index, series) in self.series.iter().enumerate() {
            push_line(&mut svg, index, &self.places(series, x, y));
        }
        svg.push_str("</svg></figure>\n");
        Some(svg)
    }

    /// As text of the page, not of the drawing: it wraps, and it never covers a line.
    fn legend(&self) -> String {
        let mut html = String::from("<p class=\"legend\">");
        for (index, series) in self.series.iter().enumerate() {
            let _ = write!(
                html,
                "<span><svg class=\"key\" viewBox=\"0 0 26 8\" aria-hidden=\"true\"><path \
                 class=\"line s{index}\" d=\"M1 4H25\"/></svg>{}</span> ",
                escape(series.name)
            );
        }
        html.push_str("</p>");
        html
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|series| {
            series.points.iter().filter_map(|point| point.1).filter(|value| value.is_finite())
        })
    }

    fn x_scale(&self) -> Option<Scale> {
        let largest = |map: fn(f64) -> f64| {
            let points = self.series.iter().flat_map(|series| &series.points);
            points.map(|point| map(point.0)).filter(|x| x.is_finite()).reduce(f64::max)
        };
        let high = match self.x {
            XAxis::Time => largest(|seconds| seconds)?,
            // The last rank lies at infinity; a little beyond the last finite one stands for it.
            XAxis::Percentile => (largest(decades)? + 0.15).max(1.0),
        };
        (high > 0.0).then_some(Scale { low: 0.0, high, is_log: false, from: LEFT, to: RIGHT })
    }

    fn y_scale(&self) -> Option<Scale> {
        let largest = self.values().reduce(f64::max)?.max(0.0);
        let least = self.values().filter(|value| *value > 0.0).reduce(f64::min);
        let is_log = self.y_unit == Unit::Micros
            && least.is_some_and(|least| largest / least > LOG_FROM_RATIO);
        let (low, high) = match least {
            Some(least) if is_log => (round_down(least), round_up(largest)),
            _ => (0.0, linear_top(largest, self.y_unit)),
        };
        Some(Scale { low, high, is_log, from: BOTTOM, to: TOP })
    }

    fn places(&self, series: &Series<'_>, x: Scale, y: Scale) -> Vec<Option<(f64, f64)>> {
        let place_x = |value: f64| match self.x {
            XAxis::Time => x.place(value),
            XAxis::Percentile => x.place(decades(value).min(x.high)),
        };
        let place = |point: &(f64, Option<f64>)| {
            let place = (place_x(point.0), y.place(point.1?));
            (place.0.is_finite() && place.1.is_finite()).then_some(place)
        };
        series.points.iter().map(place).collect()
    }

    fn push_y_axis(&self, svg: &mut String, y: Scale) {
        for tick in y_ticks(y, self.y_unit) {
            let place = y.place(tick);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {place:.1}H{RIGHT}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 5.0,
                place + 4.0,
                tick_text(tick, self.y_unit)
            );
        }
        let note = if y.is_log { " (log scale)" } else { "" };
        let _ = write!(
            svg,
            "<text class=\"axis\" transform=\"translate(11 {:.1}) rotate(-90)\" \
             text-anchor=\"middle\">{}{note}</text>",
            f64::midpoint(TOP, BOTTOM),
            escape(self.y_label)
        );
    }

    fn push_x_axis(&self, svg: &mut String, x: Scale) {
        let (ticks, label) = match self.x {
            XAxis::Time => time_ticks(x.high),
            XAxis::Percentile => (percentile_ticks(x.high), "percentile (log scale)"),
        };
        for (value, text) in ticks {
            let place = x.place(value);
            // A wide label at the end would be cut off by the box if it were centred.
            let (anchor, text_x) = match place {
                _ if place > RIGHT - 16.0 && text.len() > 4 => ("end", WIDTH),
                _ => ("middle", place),
            };
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{place:.1} {TOP}V{BOTTOM}\"/>\
                 <text class=\"tick\" x=\"{text_x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"{anchor}\">{text}</text>",
                BOTTOM + 16.0
            );
        }
        let _ = write!(
            svg,
            "<path class=\"frame\" d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\"/>\
             <text class=\"axis\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            f64::midpoint(LEFT, RIGHT),
            HEIGHT - 8.0
        );
    }
}

impl Scale {
    fn place(self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }
}

/// One path for each unbroken part; a part of one point becomes a dot, which a path would not show.
fn push_line(svg: &mut String, index: usize, places: &[Option<(f64, f64)>]) {
    for part in places.split(Option::is_none) {
        let points: Vec<(f64, f64)> = part.iter().copied().flatten().collect();
        if let [(x, y)] = points[..] {
            let _ =
                write!(svg, "<circle class=\"dot s{index}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
        } else if let Some(((x, y), rest)) = points.split_first() {
            let _ = write!(svg, "<path class=\"line s{index}\" d=\"M{x:.1} {y:.1}");
            for (x, y) in rest {
                let _ = write!(svg, "L{x:.1} {y:.1}");
            }
            svg.push_str("\"/>");
        }
    }
}

/// Nines of a percentile: 0 at 0, 1 at 90, 2 at 99; infinite at 100.
fn decades(percentile: f64) -> f64 {
    -(1.0 - percentile / 100.0).log10()
}

/// Every whole nine, and the median, which lies far enough from 0 and 90 only on a short axis.
fn percentile_ticks(decades_max: f64) -> Vec<(f64, String)> {
    let mut ticks = vec![(0.0, "0 %".to_owned())];
    if decades_max < 3.5 {
        ticks.push((decades(50.0), "50 %".to_owned()));
    }
    // Wide labels such as `99.9999 %` need more room than six decades leave each.
    let step = if decades_max > 5.5 { 2 } else { 1 };
    let first = if step == 2 { 2 } else { 1 };
    for nines in (first..=15_u8).step_by(step).filter(|nines| f64::from(*nines) <= decades_max) {
        let text = match nines {
            1 => "90 %".to_owned(),
            2 => "99 %".to_owned(),
            _ => format!("99.{} %", "9".repeat(usize::from(nines) - 2)),
        };
        ticks.push((f64::from(nines), text));
    }
    ticks
}

/// Seconds, minutes or hours, whichever gives short numbers.
fn time_ticks(seconds_max: f64) -> (Vec<(f64, String)>, &'static str) {
    let (unit_seconds, label) = match seconds_max {
        _ if seconds_max >= 3.0 * 3600.0 => (3600.0, "time since start (h)"),
        _ if seconds_max >= 300.0 => (60.0, "time since start (min)"),
        _ => (1.0, "time since start (s)"),
    };
    let step = nice_step(seconds_max / unit_seconds / 6.0);
    let ticks = multiples(step, seconds_max / unit_seconds)
        .map(|value| (value * unit_seconds, trimmed(value)))
        .collect();
    (ticks, label)
}

fn y_ticks(y: Scale, unit: Unit) -> Vec<f64> {
    if !y.is_log {
        return multiples(linear_step(y.high, unit), y.high).collect();
    }
    let decade_count = (y.high / y.low).log10();
    let factors: &[f64] = if decade_count < 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut ticks = Vec::new();
    let mut decade = 10_f64.powf(y.low.log10().floor());
    while decade <= y.high * 1.001 {
        ticks.extend(factors.iter().map(|factor| factor * decade));
        decade *= 10.0;
    }
    ticks.retain(|tick| (y.low * 0.999..=y.high * 1.001).contains(tick));
    ticks
}

/// 0, `step`, and so on, up to `high`.
fn multiples(step: f64, high: f64) -> impl Iterator<Item = f64> {
    (0..=64_u8)
        .map(move |index| f64::from(index) * step)
        .take_while(move |tick| *tick <= high * 1.001)
}

/// A step for about four lines; bytes step by powers of two, because their names do.
fn linear_step(high: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Bytes if high >= 2.0 => 2_f64.powf((high / 5.0).max(1.0).log2().ceil()),
        Unit::Count => nice_step(high / 5.0).max(1.0),
        _ => nice_step(high / 5.0),
    }
}

/// The first line at or above the largest value.
fn linear_top(largest: f64, unit: Unit) -> f64 {
    if largest <= 0.0 {
        return 1.0;
    }
    let step = linear_step(largest, unit);
    (largest / step).ceil() * step
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

fn round_up(value: f64) -> f64 {
    nice_step(value)
}

fn round_down(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let factor = [5.0, 2.0].into_iter().find(|factor| factor * power <= value * 1.001);
    factor.unwrap_or(1.0) * power
}

/// Short, because the margin is: the label of the axis says the rest of the unit.
fn tick_text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Micros | Unit::Seconds => {
            let micros = if unit == Unit::Micros { value } else { value * 1e6 };
            let (scaled, name) = match micros {
                _ if micros <= 0.0 => return "0".to_owned(),
                _ if micros < 0.999 => (micros * 1e3, "ns"),
                _ if micros < 999.9 => (micros, "us"),
                _ if micros < 999_900.0 => (micros / 1e3, "ms"),
                _ => (micros / 1e6, "s"),
            };
            format!("{} {name}", trimmed(scaled))
        }
        Unit::Bytes if value <= 0.0 => "0".to_owned(),
        Unit::Bytes => units::bytes(value),
        Unit::Percent => format!("{} %", trimmed(value)),
        Unit::PerSecond | Unit::Count | Unit::Ratio => match value {
            _ if value >= 999_999.0 => format!("{}M", trimmed(value / 1e6)),
            _ if value >= 9999.0 => format!("{}K", trimmed(value / 1e3)),
            _ => trimmed(value),
        },
    }
}

/// At most three digits behind the point, and no zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(x: XAxis, y_unit: Unit, points: &[(f64, Option<f64>)]) -> Option<String> {
        let series = vec![Series { name: "one", points: points.to_vec() }];
        Chart { title: "Title", x, y_unit, y_label: "label", series }.render()
    }

    /// Texts of the ticks, in the order drawn: y from below, then x from the left.
    fn ticks(svg: &str) -> Vec<&str> {
        svg.split("<text class=\"tick\"")
            .skip(1)
            .map(|part| part.split(['<', '>']).nth(1).unwrap())
            .collect()
    }

    /// Every place of the line, of each of its parts.
    fn parts(svg: &str) -> Vec<Vec<(f64, f64)>> {
        svg.split("<path class=\"line s0\" d=\"M")
            .skip(2)
            .map(|path| {
                let path = path.split('"').next().unwrap();
                let place = |text: &str| {
                    let (x, y) = text.split_once(' ').unwrap();
                    (x.parse().unwrap(), y.parse().unwrap())
                };
                path.split('L').map(place).collect()
            })
            .collect()
    }

    #[test]
    fn line_runs_from_corner_to_corner_of_the_plot() {
        let svg = chart(XAxis::Time, Unit::Count, &[(0.0, Some(0.0)), (60.0, Some(1000.0))]);
        assert_eq!(parts(&svg.unwrap()), [[(LEFT, BOTTOM), (RIGHT, TOP)]]);
    }

    #[test]
    fn missing_value_breaks_the_line_and_a_lonely_one_is_a_dot() {
        let points =
            [(1.0, Some(1.0)), (2.0, Some(2.0)), (3.0, None), (4.0, Some(2.0)), (5.0, None)];
        let svg = chart(XAxis::Time, Unit::Count, &points).unwrap();
        assert_eq!(parts(&svg).len(), 1);
        assert_eq!(parts(&svg)[0].len(), 2);
        assert_eq!(svg.matches("<circle class=\"dot s0\"").count(), 1);
    }

    #[test]
    fn each_nine_of_a_percentile_takes_the_same_room() {
        let points = [(0.0, 1.0), (90.0, 2.0), (99.0, 3.0), (99.9, 4.0), (100.0, 5.0)]
            .map(|(x, y)| (x, Some(y)));
        let svg = chart(XAxis::Percentile, Unit::Micros, &points).unwrap();
        let places = parts(&svg).remove(0);
        let gaps: Vec<f64> = places.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert!((gaps[0] - gaps[1]).abs() < 0.3 && (gaps[1] - gaps[2]).abs() < 0.3, "{gaps:?}");
        assert!(gaps[3] > 1.0 && places[4].0 <= RIGHT, "{places:?}");
        let labels = ticks(&svg);
        for label in ["0 %", "50 %", "90 %", "99 %", "99.9 %"] {
            assert!(labels.contains(&label), "{label} in {labels:?}");
        }
    }

    #[test]
    fn wide_range_of_latency_gets_a_log_axis_and_says_so() {
        let wide = [(1.0, Some(80.0)), (2.0, Some(1_000_000.0))];
        let svg = chart(XAxis::Time, Unit::Micros, &wide).unwrap();
        assert!(svg.contains("label (log scale)"));
        assert!(ticks(&svg).starts_with(&["100 us", "1 ms", "10 ms", "100 ms", "1 s"]), "{svg}");
        let narrow = [(1.0, Some(80.0)), (2.0, Some(160.0))];
        let svg = chart(XAxis::Time, Unit::Micros, &narrow).unwrap();
        assert!(!svg.contains("log scale"));
        assert_eq!(ticks(&svg)[0], "0");
    }

    #[test]
    fn ticks_are_round_in_their_own_unit() {
        let with = |unit, high| {
            let svg = chart(XAxis::Time, unit, &[(0.0, Some(0.0)), (600.0, Some(high))]).unwrap();
            ticks(&svg).join(" ")
        };
        let minutes = "0 2 4 6 8 10";
        assert_eq!(with(Unit::PerSecond, 51_000.0), format!("0 20K 40K 60K {minutes}"));
        let bytes = format!("0 1.0 MiB 2.0 MiB 3.0 MiB 4.0 MiB {minutes}").replace(".0 M", " M");
        assert_eq!(with(Unit::Bytes, 3_300_000.0), bytes);
        assert_eq!(with(Unit::Count, 3.0), format!("0 1 2 3 {minutes}"));
        assert_eq!(with(Unit::Percent, 97.0), format!("0 % 20 % 40 % 60 % 80 % 100 % {minutes}"));
    }

    #[test]
    fn nothing_to_draw_is_no_chart_and_nothing_drawn_is_infinite() {
        assert_eq!(chart(XAxis::Time, Unit::Count, &[]), None);
        assert_eq!(chart(XAxis::Time, Unit::Count, &[(1.0, None)]), None);
        assert_eq!(chart(XAxis::Time, Unit::Count, &[(0.0, Some(1.0))]), None);
        let odd = [(1.0, Some(f64::NAN)), (2.0, Some(f64::INFINITY)), (3.0, Some(0.0))];
        let svg = chart(XAxis::Time, Unit::Micros, &odd).unwrap();
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn names_are_escaped() {
        let series = vec![Series { name: "<b>", points: vec![(1.0, Some(1.0))] }];
        let chart =
            Chart { title: "\"&", x: XAxis::Time, y_unit: Unit::Count, y_label: "<i>", series };
        let svg = chart.render().unwrap();
        assert!(svg.contains("&lt;b&gt;") && svg.contains("&lt;i&gt;"));
        assert!(svg.contains("aria-label=\"&quot;&amp;\""));
    }
}
