//! Deliberate defects for `tests/mutants.rs`, which proves that the test programmes notice each of them.
//! Builds without debug assertions have none of this.

#[cfg(debug_assertions)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// Switches a defect on for this thread, or all of them off.
pub(crate) fn activate(name: Option<&'static str>) {
    #[cfg(debug_assertions)]
    ACTIVE.set(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Whether the defect is on.
pub(crate) fn active(name: &str) -> bool {
    #[cfg(debug_assertions)]
    return ACTIVE.get() == Some(name);
    #[cfg(not(debug_assertions))]
    {
        let _ = name;
        false
    }
}
