//! Things with small numbers, for the tokens of the poller: a number that was given back is not confused with its next
//! owner, whose generation is another.

use super::token::Key;

#[derive(Debug)]
pub(super) struct Slab<T> {
    entries: Vec<Option<(u32, T)>>,
    free: Vec<u32>,
    generation: u32,
}

impl<T> Slab<T> {
    pub(super) const fn new() -> Slab<T> {
        Slab { entries: Vec::new(), free: Vec::new(), generation: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// The key that the next [`insert`](Self::insert) gives: whoever registers first and inserts second needs it.
    pub(super) fn next_key(&self) -> Key {
        let index = self.free.last().copied().unwrap_or_else(|| u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        Key { index, generation: self.generation }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        let key = self.next_key();
        let entry = Some((key.generation, value));
        match self.free.pop() {
            Some(index) => self.entries[index as usize] = entry,
            None => self.entries.push(entry),
        }
        self.generation = (self.generation + 1) & Key::GENERATIONS;
        key
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.entries.get_mut(key.index as usize)? {
            Some((generation, value)) if *generation == key.generation => Some(value),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        self.free.push(key.index);
        self.entries[key.index as usize].take().map(|(_, value)| value)
    }

    /// Gives back the room of what is no longer there.
    pub(super) fn shrink(&mut self) {
        let kept = self.entries.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.entries.truncate(kept);
        self.entries.shrink_to_fit();
        self.free.retain(|&index| (index as usize) < kept);
        self.free.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_key_finds_nothing() {
        let mut slab = Slab::new();
        let a = slab.insert("a");
        assert_eq!(slab.remove(a), Some("a"));
        assert_eq!(slab.next_key().index, a.index);
        let b = slab.insert("b");
        assert_eq!(b.index, a.index);
        assert_eq!(slab.get_mut(a), None);
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.get_mut(b), Some(&mut "b"));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn shrinking_keeps_what_is_there_and_forgets_no_generation() {
        let mut slab = Slab::new();
        let keys: Vec<Key> = (0..100).map(|number| slab.insert(number)).collect();
        for key in &keys[3..] {
            slab.remove(*key);
        }
        slab.remove(keys[1]);
        slab.shrink();
        assert_eq!((slab.entries.len(), slab.len()), (3, 2));
        let late = slab.insert(7);
        assert_eq!(late.index, 1);
        let later = slab.insert(8);
        assert_eq!(slab.get_mut(keys[3]), None);
        assert_eq!(slab.get_mut(later), Some(&mut 8));
    }
}
