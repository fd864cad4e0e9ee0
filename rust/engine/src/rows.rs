//! Row numbers: where a session stands in columns of counters. A reader that keeps columns of the past finds a
//! session in all of them at the same place, and learns from `birth` that a place has changed hands.

use runner_proto::counters::Counters;

/// A place in the columns, for as long as its session is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// From 0; the lowest free ones are not sought out, the last one given back is taken first.
    pub row: u32,
    /// Never the same twice, and never 0.
    pub birth: u64,
}

/// What concerns all rows at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// How many rows there are, free ones included.
    pub rows: u32,
    /// Grows whenever a row is taken or given back.
    pub changes: u64,
    /// What sessions counted that are forgotten since; totals that include it never go back.
    pub retired: Counters,
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) fleet: Fleet,
    free: Vec<u32>,
}

impl Rows {
    pub(crate) fn take(&mut self) -> Place {
        let row = self.free.pop().unwrap_or_else(|| {
            self.fleet.rows += 1;
            self.fleet.rows - 1
        });
        self.fleet.changes += 1;
        Place { row, birth: self.fleet.changes }
    }

    pub(crate) fn give_back(&mut self, place: Place, totals: &Counters) {
        self.fleet.changes += 1;
        self.fleet.retired.add_totals(totals);
        self.free.push(place.row);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_changes_hands_has_another_birth_and_leaves_its_totals() {
        let mut rows = Rows::default();
        let (first, second) = (rows.take(), rows.take());
        assert_eq!((first.row, second.row), (0, 1));
        rows.give_back(first, &Counters { frames_sent: 3, unanswered: 1, ..Counters::default() });
        let again = rows.take();
        assert_eq!((again.row, rows.fleet.rows), (0, 2));
        assert!(again.birth > second.birth);
        assert_eq!((rows.fleet.retired.frames_sent, rows.fleet.retired.unanswered), (3, 0));
    }
}
