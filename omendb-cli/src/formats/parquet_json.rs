//! Cells of a Parquet file as JSON.

use arrow_array::cast::AsArray;
use arrow_array::temporal_conversions as temporal;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, StructArray};
use arrow_schema::{DataType, Field, TimeUnit};
use serde_json::{Map, Value, json};

/// Refuses types that have no JSON; `Err` names the column and the type.
pub fn check_type(field: &Field) -> std::result::Result<(), String> {
    match field.data_type() {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Date32
        | DataType::Timestamp(..) => Ok(()),
        DataType::List(child) => check_type(child),
        DataType::Struct(children) => children.iter().try_for_each(|child| check_type(child)),
        other => Err(format!("column {:?} is of type {other}, which has no JSON", field.name())),
    }
}

fn integer<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> Value
where
    T::Native: Into<Value>,
{
    array.as_primitive::<T>().value(row).into()
}

/// The cell of `row`; null for null, NaN, infinity and dates out of range. The type was accepted by [`check_type`].
pub fn cell(array: &dyn Array, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int8 => integer::<Int8Type>(array, row),
        DataType::Int16 => integer::<Int16Type>(array, row),
        DataType::Int32 => integer::<Int32Type>(array, row),
        DataType::Int64 => integer::<Int64Type>(array, row),
        DataType::UInt8 => integer::<UInt8Type>(array, row),
        DataType::UInt16 => integer::<UInt16Type>(array, row),
        DataType::UInt32 => integer::<UInt32Type>(array, row),
        DataType::UInt64 => integer::<UInt64Type>(array, row),
        DataType::Float16 => json!(array.as_primitive::<Float16Type>().value(row).to_f64()),
        DataType::Float32 => integer::<Float32Type>(array, row),
        DataType::Float64 => integer::<Float64Type>(array, row),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Date32 => date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(unit, zone) => {
            let time = match unit {
                TimeUnit::Second => {
                    temporal::timestamp_s_to_datetime(array.as_primitive::<TimestampSecondType>().value(row))
                }
                TimeUnit::Millisecond => {
                    temporal::timestamp_ms_to_datetime(array.as_primitive::<TimestampMillisecondType>().value(row))
                }
                TimeUnit::Microsecond => {
                    temporal::timestamp_us_to_datetime(array.as_primitive::<TimestampMicrosecondType>().value(row))
                }
                TimeUnit::Nanosecond => {
                    temporal::timestamp_ns_to_datetime(array.as_primitive::<TimestampNanosecondType>().value(row))
                }
            };
            let zone = if zone.is_some() { "Z" } else { "" };
            time.map_or(Value::Null, |t| json!(format!("{}{zone}", t.format("%Y-%m-%dT%H:%M:%S%.f"))))
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|i| cell(&items, i)).collect()
        }
        DataType::Struct(_) => Value::Object(object(array.as_struct(), row)),
        _ => Value::Null,
    }
}

fn object(array: &StructArray, row: usize) -> Map<String, Value> {
    let fields = array.fields().iter().zip(array.columns());
    fields.map(|(field, column)| (field.name().clone(), cell(column, row))).collect()
}

fn date(days: i32) -> Value {
    temporal::date32_to_datetime(days).map_or(Value::Null, |t| json!(t.format("%Y-%m-%d").to_string()))
}
