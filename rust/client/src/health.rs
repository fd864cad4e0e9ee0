//! Which probes fail at the moment; says something only when a verdict changes.

use crate::{Effect, Event, Probe};

/// The verdicts of one connection's probes; all healthy at first.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Health(u8);

impl Health {
    pub(crate) const fn is_failing(self, probe: Probe) -> bool {
        self.0 & bit(probe) != 0
    }

    /// Records a verdict; a changed one goes to `effects`.
    pub(crate) fn set(
        &mut self,
        probe: Probe,
        healthy: bool,
        detail: &'static str,
        effects: &mut Vec<Effect>,
    ) {
        if healthy != self.is_failing(probe) {
            return;
        }
        self.0 ^= bit(probe);
        effects.push(Effect::Event(Event::Probe { probe, healthy, detail }));
    }
}

const fn bit(probe: Probe) -> u8 {
    1 << probe as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_told() {
        let mut health = Health::default();
        let effects = &mut Vec::new();
        health.set(Probe::Pong, true, "", effects);
        assert!(effects.is_empty(), "healthy is the start");
        health.set(Probe::Pong, false, "x", effects);
        health.set(Probe::Pong, false, "x", effects);
        health.set(Probe::SendUnacked, false, "y", effects);
        health.set(Probe::Pong, true, "z", effects);
        let told: Vec<_> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Event(Event::Probe { probe, healthy, .. }) => (*probe, *healthy),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(told, [(Probe::Pong, false), (Probe::SendUnacked, false), (Probe::Pong, true)]);
        assert!(health.is_failing(Probe::SendUnacked));
    }
}
