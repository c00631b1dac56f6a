use super::*;

fn column(kind: Kind, length: i16, align: u8) -> Column {
    Column { name: String::new(), kind, length, align }
}

fn golang() -> Vec<Column> {
    vec![column(Kind::Integer, 8, 8), column(Kind::Bool, 1, 1)]
}

fn drizzle() -> Vec<Column> {
    vec![column(Kind::Integer, 4, 4), column(Kind::Text, -1, 4), column(Kind::Integer, 8, 8)]
}

#[test]
fn rows_of_fixed_columns() {
    let mut rest = vec![0];
    rest.extend(123_i64.to_le_bytes());
    rest.push(1);
    let tuple = Tuple { infomask2: 2, infomask: 0, hoff: 24, rest: &rest };
    assert_eq!(tuple.decode(&golang()).unwrap(), [Value::Integer(123), Value::Bool(true)]);
}

#[test]
fn short_texts_stand_unaligned_and_long_ones_do_not() {
    let mut rest = vec![0];
    rest.extend(7_i32.to_le_bytes());
    rest.push((3 << 1) | 1);
    rest.extend(b"ab");
    rest.push(0); // to the next multiple of 8
    rest.extend(1_780_000_000_000_i64.to_le_bytes());
    let tuple = Tuple { infomask2: 3, infomask: 0, hoff: 24, rest: &rest };
    let row = tuple.decode(&drizzle()).unwrap();
    assert_eq!(row, [Value::Integer(7), Value::Text("ab".into()), Value::Integer(1_780_000_000_000)]);

    let long = "x".repeat(200);
    let columns = [column(Kind::Bool, 1, 1), column(Kind::Text, -1, 4)];
    let mut rest = vec![0, 1, 0, 0, 0];
    rest.extend((((200 + 4) << 2) as u32).to_le_bytes());
    rest.extend(long.as_bytes());
    let tuple = Tuple { infomask2: 2, infomask: 0, hoff: 24, rest: &rest };
    assert_eq!(tuple.decode(&columns).unwrap(), [Value::Bool(true), Value::Text(long)]);
}

#[test]
fn nulls_and_columns_added_later() {
    let mut rest = vec![0b0000_0101];
    rest.extend(7_i32.to_le_bytes());
    rest.extend([0; 4]);
    rest.extend(9_i64.to_le_bytes());
    let mut columns = drizzle();
    columns.push(column(Kind::Text, -1, 4));
    let tuple = Tuple { infomask2: 3, infomask: 1, hoff: 24, rest: &rest };
    assert_eq!(tuple.decode(&columns).unwrap(), [Value::Integer(7), Value::Null, Value::Integer(9), Value::Null]);
    assert_eq!(tuple.decode(&columns[..2]), None, "more attributes than the catalog has");
}

#[test]
fn compressed_values_are_unpacked_and_toasted_ones_said_to_be_unread() {
    let packed = [0b0000_0010, b'x', 0x0F, 1, 40];
    let mut rest = vec![0];
    rest.extend((((packed.len() as u32 + 8) << 2) | 2).to_le_bytes());
    rest.extend(59_u32.to_le_bytes());
    rest.extend(packed);
    let columns = [column(Kind::Text, -1, 4)];
    let tuple = |rest: &'static [u8]| Tuple { infomask2: 1, infomask: 0, hoff: 24, rest }.decode(&columns);
    let leaked: &'static [u8] = rest.clone().leak();
    assert_eq!(tuple(leaked).unwrap(), [Value::Text("x".repeat(59))]);
    let mut huge = rest.clone();
    huge[5..9].copy_from_slice(&0x3FFF_FFFF_u32.to_le_bytes());
    assert_eq!(tuple(huge.leak()).unwrap(), [Value::Unread], "an enormous size is not believed");
    let mut toasted = vec![0, 1, 18];
    toasted.extend([0; 16]);
    assert_eq!(tuple(toasted.leak()).unwrap(), [Value::Unread]);
    assert_eq!(tuple(&[0, 1, 99, 0]), None, "an unknown pointer");
}

/// Truncated at every length and with every bit flipped: a row or none, never a panic.
#[test]
fn damaged_rows() {
    let mut rest = vec![0b0000_0111];
    rest.extend(7_i32.to_le_bytes());
    rest.push((3 << 1) | 1);
    rest.extend(b"ab\0");
    rest.extend(9_i64.to_le_bytes());
    for cut in 0..rest.len() {
        let tuple = Tuple { infomask2: 3, infomask: 1, hoff: 24, rest: &rest[..cut] };
        assert_eq!(tuple.decode(&drizzle()), None, "{cut}");
    }
    for at in 0..rest.len() {
        for bit in 0..8 {
            let mut flipped = rest.clone();
            flipped[at] ^= 1 << bit;
            for hoff in [0, 23, 24, 32, 255] {
                for infomask in [0, 1, 0xFFFF] {
                    for infomask2 in [0, 3, 0x7FF, 0xFFFF] {
                        let _ = Tuple { infomask2, infomask, hoff, rest: &flipped }.decode(&drizzle());
                    }
                }
            }
        }
    }
}
