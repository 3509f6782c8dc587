// SPDX-License-Identifier: Apache-2.0

//! Writes small GGUF metadata sections for tests.

/// Collects keys and writes the file's bytes.
pub(crate) struct GgufWriter {
    version: u32,
    count: u64,
    body: Vec<u8>,
}

impl GgufWriter {
    pub(crate) fn new(version: u32) -> Self {
        Self {
            version,
            count: 0,
            body: Vec::new(),
        }
    }

    fn key(mut self, key: &str, kind: u32) -> Self {
        self.count += 1;
        self.text(key);
        self.body.extend(kind.to_le_bytes());
        self
    }

    fn text(&mut self, text: &str) {
        self.body.extend((text.len() as u64).to_le_bytes());
        self.body.extend(text.as_bytes());
    }

    fn array(self, key: &str, element: u32, count: usize) -> Self {
        let mut this = self.key(key, 9);
        this.body.extend(element.to_le_bytes());
        this.body.extend((count as u64).to_le_bytes());
        this
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        let mut this = self.key(key, 8);
        this.text(value);
        this
    }

    pub(crate) fn boolean(self, key: &str, value: bool) -> Self {
        let mut this = self.key(key, 7);
        this.body.push(u8::from(value));
        this
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        let mut this = self.key(key, 4);
        this.body.extend(value.to_le_bytes());
        this
    }

    pub(crate) fn strings(self, key: &str, values: &[&str]) -> Self {
        let mut this = self.array(key, 8, values.len());
        for value in values {
            this.text(value);
        }
        this
    }

    pub(crate) fn i32s(self, key: &str, values: &[i32]) -> Self {
        let mut this = self.array(key, 5, values.len());
        this.body
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        this
    }

    pub(crate) fn f32s(self, key: &str, values: &[f32]) -> Self {
        let mut this = self.array(key, 6, values.len());
        this.body
            .extend(values.iter().flat_map(|value| value.to_le_bytes()));
        this
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(self.body);
        bytes
    }
}
