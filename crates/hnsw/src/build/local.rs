//! A thread's memory while it inserts: what it has seen, with the distances, and the best of that.
//! Its own file because nothing in it is shared, and nothing in it knows the graph.

/// One element near another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub distance: f32,
    pub id: u32,
}

/// The elements that one insertion has measured: an open-addressing table, small enough to stay in
/// the nearest cache, which a mark an element would not. Distances that linking needs again are all
/// in it.
#[derive(Debug)]
pub(super) struct Measured {
    slots: Vec<Slot>,
    used: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    id: u32,
    distance: f32,
}

/// The highest bit of an id in a slot: chosen as a neighbour.
const CHOSEN: u32 = 1 << 31;
/// No element.
const EMPTY: Slot = Slot { id: u32::MAX, distance: 0.0 };

impl Measured {
    const FIRST: usize = 1 << 12;

    fn new() -> Self {
        Self { slots: vec![EMPTY; Self::FIRST], used: 0 }
    }

    pub fn clear(&mut self) {
        self.used = 0;
        self.slots.fill(EMPTY);
    }

    /// Makes room for so many more, so that slots stay where they are.
    pub fn room(&mut self, more: usize) {
        while (self.used + more) * 2 > self.slots.len() {
            let larger = vec![EMPTY; self.slots.len() * 2];
            for slot in std::mem::replace(&mut self.slots, larger) {
                if slot.id != EMPTY.id {
                    let at = self.find(slot.id & !CHOSEN);
                    self.slots[at] = slot;
                }
            }
        }
    }

    /// Where an element is, or would be.
    #[inline]
    fn find(&self, id: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (id.wrapping_mul(0x9e37_79b1) >> 7) as usize & mask;
        while self.slots[at].id & !CHOSEN != id && self.slots[at].id != EMPTY.id {
            at = (at + 1) & mask;
        }
        at
    }

    /// Marks an element as seen; its slot where it was not.
    #[inline]
    pub fn see(&mut self, id: u32) -> Option<usize> {
        let at = self.find(id);
        let fresh = self.slots[at].id == EMPTY.id;
        fresh.then(|| {
            self.slots[at].id = id;
            self.used += 1;
            at
        })
    }

    /// Notes the distance of the element in a slot.
    #[inline]
    pub fn set(&mut self, slot: usize, distance: f32) {
        self.slots[slot].distance = distance;
    }

    /// Notes that an element was chosen; it was seen before.
    pub fn choose(&mut self, id: u32) {
        let at = self.find(id);
        self.slots[at].id |= CHOSEN;
    }

    /// The distance of an element, and whether it was chosen; none where it was not seen.
    #[inline]
    pub fn get(&self, id: u32) -> Option<(f32, bool)> {
        let slot = self.slots[self.find(id)];
        (slot.id != EMPTY.id).then_some((slot.distance, slot.id & CHOSEN != 0))
    }
}

/// The best of what was found, nearest first, at most so many; and which were expanded. Each is one
/// number: the distance's bits, made to sort as distances do, the id, and the mark of the expanded.
#[derive(Debug, Default)]
pub(super) struct Best {
    list: Vec<u64>,
    most: usize,
    /// All before are expanded.
    next: usize,
}

/// The mark of the expanded.
const EXPANDED: u64 = 1;

fn pack(Near { distance, id }: Near) -> u64 {
    let bits = distance.to_bits();
    let sorting = bits ^ ((bits as i32 >> 31) as u32 | 1 << 31);
    u64::from(sorting) << 32 | u64::from(id) << 1
}

fn unpack(packed: u64) -> Near {
    let sorting = (packed >> 32) as u32;
    let bits = sorting ^ ((!sorting as i32 >> 31) as u32 | 1 << 31);
    Near { distance: f32::from_bits(bits), id: packed as u32 >> 1 }
}

impl Best {
    pub fn start(&mut self, most: usize) {
        self.list.clear();
        self.most = most;
        self.next = 0;
    }

    /// Takes an element in where it is among the best. Says whether it is now the one to be
    /// expanded next.
    #[inline]
    pub fn offer(&mut self, near: Near) -> bool {
        let packed = pack(near);
        if self.list.len() == self.most {
            match self.list.last() {
                Some(farthest) if packed < *farthest => self.list.pop(),
                _ => return false,
            };
        }
        let at = self.list.partition_point(|other| *other < packed);
        self.list.insert(at, packed);
        self.next = self.next.min(at);
        self.next == at
    }

    /// The nearest that was not expanded, which from now on it is.
    pub fn expand(&mut self) -> Option<u32> {
        let ahead = self.list[self.next..].iter().position(|packed| packed & EXPANDED == 0)?;
        self.next += ahead + 1;
        let packed = &mut self.list[self.next - 1];
        *packed |= EXPANDED;
        Some(unpack(*packed).id)
    }

    /// What will probably be expanded next.
    pub fn peek(&self) -> Option<u32> {
        let mut rest = self.list[self.next..].iter();
        rest.find(|packed| *packed & EXPANDED == 0).map(|packed| unpack(*packed).id)
    }

    pub fn iter(&self) -> impl Iterator<Item = Near> {
        self.list.iter().map(|packed| unpack(*packed))
    }
}

/// An element to insert, and where its search on its lowest layers begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// The elements passed on the way down, the lowest last.
    pub way: [u32; 3],
    pub element: u32,
    pub near: Near,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Local {
    pub measured: Measured,
    pub best: Best,
    /// Elements that were not seen before, and their slots and distances.
    pub fresh: Vec<u32>,
    pub slots: Vec<usize>,
    pub distances: Vec<f32>,
    pub dots: Vec<i32>,
    pub candidates: Vec<(u32, f32)>,
    pub chosen: Vec<(u32, f32)>,
    pub to_element: Vec<f32>,
    /// Elements that this thread is to insert, the next one last.
    pub queue: Vec<Start>,
}

impl Local {
    pub fn new() -> Self {
        Self {
            measured: Measured::new(),
            best: Best::default(),
            fresh: Vec::new(),
            slots: Vec::new(),
            distances: Vec::new(),
            dots: Vec::new(),
            candidates: Vec::new(),
            chosen: Vec::new(),
            to_element: Vec::new(),
            queue: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_numbers_sort_as_distances_do() {
        let distances = [f32::NEG_INFINITY, -7.5, -1e-30, 0.0, 1e-30, 2.0, f32::INFINITY];
        let near = |distance| Near { distance, id: 0x7fff_fffe };
        assert!(distances.map(|distance| pack(near(distance))).is_sorted());
        distances.iter().for_each(|d| assert_eq!(unpack(pack(near(*d)) | EXPANDED), near(*d)));
    }
}
