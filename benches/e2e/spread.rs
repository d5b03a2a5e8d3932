//! Figures of one kind: their median, their least and greatest, and how a table tells them.

/// Ratios whose greatest is more than this times the least are not steady enough to be told.
const STEADY: f64 = 1.3;

/// Median, least and greatest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) greatest: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Spread> {
        figures.sort_by(f64::total_cmp);
        let (least, greatest) = (*figures.first()?, *figures.last()?);
        let upper = figures.len() / 2;
        let lower = (figures.len() - 1) / 2;
        Some(Spread { median: f64::midpoint(figures[lower], figures[upper]), least, greatest })
    }

    /// Of the quotients of the pairs.
    fn of_ratios(upper: &[f64], lower: &[f64]) -> Option<Spread> {
        Spread::of(upper.iter().zip(lower).map(|(upper, lower)| upper / lower).collect())
    }

    fn steady(self) -> bool {
        self.greatest <= STEADY * self.least
    }
}

/// A figure with three significant digits, or a dash.
pub(crate) fn figure(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure.abs() >= 100.0 => format!("{figure:.0}"),
        Some(figure) if figure.abs() >= 10.0 => format!("{figure:.1}"),
        Some(figure) if figure.abs() >= 1.0 => format!("{figure:.2}"),
        Some(figure) => format!("{figure:.3}"),
    }
}

/// The median of figures.
pub(crate) fn median(figures: Vec<f64>) -> String {
    figure(Spread::of(figures).map(|spread| spread.median))
}

/// The quotients of pairs of figures: median, least and greatest.
pub(crate) fn ratio(upper: &[f64], lower: &[f64]) -> String {
    let Some(spread) = Spread::of_ratios(upper, lower) else { return "-".to_owned() };
    let remark = if spread.steady() { "" } else { ", not steady" };
    format!("{:.3} ({:.3}-{:.3}{remark})", spread.median, spread.least, spread.greatest)
}
