//! The checksum of TensorFlow's files: CRC-32C, masked.

/// The reversed polynomial of Castagnoli.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What is added by the mask.
const MASK: u32 = 0xa282_ead8;

/// For each byte the checksum it leaves when `n` zero bytes follow.
const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg());
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The masked checksum of `bytes`, as files hold it.
pub(crate) fn masked_crc32c(bytes: &[u8]) -> u32 {
    let table = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
    let (eights, rest) = bytes.as_chunks::<8>();
    let mut crc = u32::MAX;
    for &[a, b, c, d, e, f, g, h] in eights {
        let [w, x, y, z] = (crc ^ u32::from_le_bytes([a, b, c, d])).to_le_bytes();
        crc = table(7, w)
            ^ table(6, x)
            ^ table(5, y)
            ^ table(4, z)
            ^ table(3, e)
            ^ table(2, f)
            ^ table(1, g)
            ^ table(0, h);
    }
    for &byte in rest {
        crc = (crc >> 8) ^ table(0, crc as u8 ^ byte);
    }
    (!crc).rotate_right(15).wrapping_add(MASK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        let unmasked = |bytes| masked_crc32c(bytes).wrapping_sub(MASK).rotate_left(15);
        // RFC 3720, B.4.
        assert_eq!(unmasked(&[0; 32]), 0x8a91_36aa);
        assert_eq!(unmasked(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(unmasked(&ascending), 0x46dd_794e);
        assert_eq!(unmasked(b"123456789"), 0xe306_9283);
    }
}
