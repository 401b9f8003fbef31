//! Numbers of JSON, compared exactly whatever their type.

use std::cmp::Ordering;
use std::fmt;

/// A JSON number in its one canonical form: what is a whole number and fits is never a `Float`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Num {
    /// A whole number of i64.
    Int(i64),
    /// A whole number past `i64::MAX`.
    Big(u64),
    /// Any other number.
    Float(f64),
}

/// 2^63 and 2^64, both exact.
const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

impl Num {
    /// `None` only for what neither i64, u64 nor f64 holds, which the JSON reader does not produce.
    pub fn from_json(number: &serde_json::Number) -> Option<Num> {
        match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(i), _, _) => Some(Num::Int(i)),
            (_, Some(u), _) => Some(Num::Big(u)),
            (_, _, Some(x)) => Some(Num::from_f64(x)),
            _ => None,
        }
    }

    pub fn from_f64(x: f64) -> Num {
        if x.trunc() == x && (-TWO_63..TWO_64).contains(&x) {
            if x < TWO_63 { Num::Int(x as i64) } else { Num::Big(x as u64) }
        } else {
            Num::Float(x)
        }
    }

    pub fn from_u64(x: u64) -> Num {
        i64::try_from(x).map_or(Num::Big(x), Num::Int)
    }

    /// The same number as an f64, where there is one.
    pub fn exact_f64(self) -> Option<f64> {
        let (x, whole) = match self {
            Num::Int(i) => (i as f64, i128::from(i)),
            Num::Big(u) => (u as f64, i128::from(u)),
            Num::Float(x) => return Some(x),
        };
        (x as i128 == whole).then_some(x)
    }
}

/// A whole number against a canonical float.
fn cmp_whole(whole: i128, x: f64) -> Ordering {
    if x >= TWO_64 {
        Ordering::Less
    } else if x < -TWO_63 {
        Ordering::Greater
    } else if whole <= x.floor() as i128 {
        // A canonical float in this range has a fraction, so it lies strictly above its floor.
        Ordering::Less
    } else {
        Ordering::Greater
    }
}

impl Ord for Num {
    fn cmp(&self, other: &Self) -> Ordering {
        match (*self, *other) {
            (Num::Int(a), Num::Int(b)) => a.cmp(&b),
            (Num::Big(a), Num::Big(b)) => a.cmp(&b),
            (Num::Int(_), Num::Big(_)) => Ordering::Less,
            (Num::Big(_), Num::Int(_)) => Ordering::Greater,
            (Num::Float(a), Num::Float(b)) => a.total_cmp(&b),
            (Num::Int(a), Num::Float(b)) => cmp_whole(a.into(), b),
            (Num::Big(a), Num::Float(b)) => cmp_whole(a.into(), b),
            (Num::Float(a), Num::Int(b)) => cmp_whole(b.into(), a).reverse(),
            (Num::Float(a), Num::Big(b)) => cmp_whole(b.into(), a).reverse(),
        }
    }
}

impl PartialOrd for Num {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Num {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Num {}

impl fmt::Display for Num {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Num::Int(i) => write!(f, "{i}"),
            Num::Big(u) => write!(f, "{u}"),
            // The debug form is the shortest that reads back the same, with an exponent where that is shorter.
            Num::Float(x) => write!(f, "{x:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each number stands in its own place of this ascending list.
    #[test]
    fn order_is_exact_across_types() {
        let ascending = [
            Num::from_f64(-1e300),
            Num::from_f64(-9_223_372_036_854_777_856.0),
            Num::Int(i64::MIN),
            Num::Int(i64::MIN + 1),
            Num::Int(-2),
            Num::from_f64(-1.5),
            Num::from_f64(-1.0),
            Num::from_f64(-0.5),
            Num::from_f64(-0.0),
            Num::from_f64(f64::MIN_POSITIVE),
            Num::from_f64(0.5),
            Num::Int(1),
            Num::from_f64(9_007_199_254_740_992.0),
            Num::Int(9_007_199_254_740_993),
            Num::Int(i64::MAX),
            Num::from_u64(1 << 63),
            Num::from_u64((1 << 63) + 1),
            Num::from_u64(u64::MAX),
            Num::from_f64(TWO_64),
            Num::from_f64(1e300),
        ];
        for (i, a) in ascending.iter().enumerate() {
            for (j, b) in ascending.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a} against {b}");
            }
        }
        assert_eq!(Num::from_f64(-0.0), Num::Int(0));
        assert_eq!(Num::from_f64(TWO_63), Num::from_u64(1 << 63));
        assert_eq!(Num::Int(i64::MAX).exact_f64(), None);
        assert_eq!(Num::from_u64(u64::MAX).exact_f64(), None);
        assert_eq!(Num::Int(1 << 60).exact_f64(), Some((1u64 << 60) as f64));
    }
}
