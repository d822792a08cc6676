//! Every number that was chosen and not derived: what it is, its unit, and where its effect is measured.
//! What each does on real vectors, halved, doubled and switched off, is in `docs/index-tuning.md`, which
//! `make tuning` makes from the example `curve`; nothing else in this crate is to hold such a number.
//!
//! With the feature `ablation` a number is read once from the environment: `PGCLIP_TUNING` is a list of
//! NAME=VALUE, divided by commas. Without it, as in the extension, each is a constant.

#[cfg(feature = "ablation")]
fn given<T: std::str::FromStr>(name: &str) -> Option<T> {
    let list = std::env::var("PGCLIP_TUNING").ok()?;
    let value = list.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.parse().unwrap_or_else(|_| panic!("PGCLIP_TUNING: {name}={value}")))
}

macro_rules! numbers {
    ($($(#[$about:meta])* $name:ident: $type:ty = $value:expr;)*) => {
        $(
            $(#[$about])*
            #[inline]
            pub fn $name() -> $type {
                #[cfg(feature = "ablation")]
                {
                    static VALUE: std::sync::OnceLock<$type> = std::sync::OnceLock::new();
                    *VALUE.get_or_init(|| given(stringify!($name)).unwrap_or($value))
                }
                #[cfg(not(feature = "ablation"))]
                $value
            }
        )*

        /// The names, for those who try them all.
        pub const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

numbers! {
    // ---- when a search ends ----

    /// Slack of a search where nobody sets one, relative to the k-th distance.
    slack: f32 = 0.2;
    /// The least slack, relative to the k-th distance: for queries whose k-th is as far as the mean, such as
    /// the middle of a circle of rows (`tests/sql/index.sql`).
    slack_floor: f32 = 0.01;
    /// What a slack is worth of the way from the k-th to the mean distance, against its worth of the k-th:
    /// for queries to which everything is about equally far.
    slack_far: f32 = 2.5;
    /// The most elements found for the first rows, at slack 1, and for each row more. Where a query is
    /// about equally far from many, the slack alone has thousands looked at for what hundreds give.
    most_first: f32 = 5000.0;
    most_each: f32 = 40.0;

    // ---- bursts of near-duplicates ----

    /// Squared distance to the query over that to the neighbours, from which a record is in a crowd.
    crowd: f32 = 16.0;
    /// Records after which a walk asks itself whether it is caught in one.
    caught_after: u64 = 64;
    /// Elements of layer 1 whose neighbours are looked at then.
    around: u64 = 256;
    /// Elements of layer 1 from which a build searches the base layer for an element's neighbours.
    build_starts: usize = 64;

    // ---- filters that let few rows through ----

    /// Records after which a walk asks itself whether it finds rows that pass, which it does not where
    /// fewer than one in `rare` did.
    filter_window: u64 = 256;
    filter_rare: u64 = 16;
    /// Neighbours of rows that pass after which these have to be twice as good as others.
    filter_trial: u64 = 64;
    /// Records on the first way that bring nothing, which end a step whose second way has ended.
    filter_patience: u64 = 512;
    /// Elements that pass from all over the index, with which the second way begins.
    filter_sample: usize = 100;

    // ---- the graph ----

    /// Dead elements looked into for one element's new neighbours.
    repair_dead: usize = 64;
    /// Elements expanded to find neighbours for one that has lost nearly all.
    repair_searched: usize = 40;

    // ---- the shape of a record ----

    /// The most variance of an estimated product with a residual of unit length: that of one bit for
    /// each of 384 components is 0.0015.
    rough: f32 = 0.0027;
    /// The least share of the edges, 2m, that are left to let more records on a page.
    least_edges: f32 = 0.7;
}
