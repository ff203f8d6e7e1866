//! A row of an answer, whatever the order and case of its columns.

/// One row; columns are read by name, whatever their order and case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    columns: Vec<(String, Option<String>)>,
}

impl Row {
    /// A row from names and values, for tests of the parsers.
    pub fn of<'a>(columns: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        Self {
            columns: columns
                .into_iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.map(str::to_owned)))
                .collect(),
        }
    }

    /// The value of a column; `None` when it is NULL or absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.columns
            .iter()
            .find(|(column, _)| column.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value.as_deref())
    }

    /// The first of several names that is there and not NULL: versions rename columns.
    pub fn get_any(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }

    /// Names in lower case, and values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.columns
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// The value at a place, from 0.
    pub fn at(&self, index: usize) -> Option<&str> {
        self.columns.get(index).and_then(|(_, v)| v.as_deref())
    }
}

impl From<mysql::Row> for Row {
    fn from(row: mysql::Row) -> Self {
        let names: Vec<String> = row
            .columns_ref()
            .iter()
            .map(|column| column.name_str().to_ascii_lowercase())
            .collect();
        let values = row.unwrap_raw().into_iter().map(|value| match value {
            Some(mysql::Value::Bytes(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
            Some(mysql::Value::NULL) | None => None,
            Some(other) => Some(other.as_sql(true).trim_matches('\'').to_owned()),
        });
        Row {
            columns: names.into_iter().zip(values).collect(),
        }
    }
}
