//! SipHash-2-4 with 128 bits of output (Aumasson, Bernstein 2012; the authors' reference code).
//!
//! Compaction takes two keys with one hash for the same key and drops the older record. The hash
//! is therefore wide, so that chance gives no such pair, and keyed with random bits, so that nobody
//! can choose one. The standard library's hasher is of 64 bits.

/// The secret that a hash depends on.
#[derive(Clone, Copy)]
pub(super) struct SipKey(u64, u64);

impl SipKey {
    /// A key of 128 random bits.
    pub(super) fn new(bits: u128) -> Self {
        Self(bits as u64, (bits >> 64) as u64)
    }

    /// The hash of `bytes`.
    pub(super) fn hash(self, bytes: &[u8]) -> [u64; 2] {
        let mut state = Sip([
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ]);
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        // The last word has the bytes that are left and, in its top byte, the length modulo 256.
        let last = (bytes.len() as u64) << 56;
        state.absorb(tail.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) | last);
        state.0[2] ^= 0xee;
        let low = state.squeeze();
        state.0[1] ^= 0xdd;
        [low, state.squeeze()]
    }
}

struct Sip([u64; 4]);

impl Sip {
    #[inline]
    fn round(&mut self) {
        let [mut v0, mut v1, mut v2, mut v3] = self.0;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        self.0 = [v0, v1, v2, v3];
    }

    #[inline]
    fn absorb(&mut self, word: u64) {
        self.0[3] ^= word;
        self.round();
        self.round();
        self.0[0] ^= word;
    }

    fn squeeze(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.0.iter().fold(0, |all, word| all ^ word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenSSL's SIPHASH gives for 16 bytes of output.
    #[test]
    fn hashes_are_those_of_other_implementations() {
        let key = SipKey::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100);
        let message: Vec<u8> = (0..15).collect();
        for (len, expected) in [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
            (2, 0x8177_228d_a4a4_5dc7_fca3_8bde_f60a_ffe4),
            (15, 0x5493_e999_33b0_a811_7e08_ec0f_97cf_c3d9),
        ] {
            let [low, high] = key.hash(&message[..len]).map(u64::swap_bytes);
            assert_eq!(u128::from(low) << 64 | u128::from(high), expected, "{len} bytes");
        }
    }
}
