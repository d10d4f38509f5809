//! What happens to programs, servers, disks and people: kills at random moments, connections that break, disks that are full,
//! two operators at once. Afterwards exactly the state before or after, one live side, and nothing lost or left.

mod disks;
mod kills;
mod operators;
pub mod servers;

/// Random numbers that can be had again: splitmix64.
pub struct Random(pub u64);

impl Random {
    /// From `BACKOUT_TEST_SEED`, or a new one; printed.
    pub fn new(what: &str) -> Random {
        let given = std::env::var("BACKOUT_TEST_SEED").ok().map(|s| s.parse().expect("BACKOUT_TEST_SEED is a number"));
        let seed: u64 = given.unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0 >> 32);
        println!("{what}: BACKOUT_TEST_SEED={seed}");
        Random(seed)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}
