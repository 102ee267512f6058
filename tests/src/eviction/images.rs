//! Images as registries have them: a few bases under many images, and layers from some KiB to some GiB.

const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;
/// The least and the greatest layer, in bytes.
const LAYER_BYTES: (f64, f64) = (KIB, 4096.0 * MIB);
/// Widths of the normal distributions that the logarithms of lengths have: small files, layers, and layers with models in them.
const DOCUMENT_SPREAD: f64 = 0.6;
const LAYER_SPREAD: f64 = 1.8;
const MODEL_SPREAD: f64 = 1.0;
const BASES: usize = 10;
const MODEL_BASES: usize = 2;
/// One version in so many changes its dependencies, one in so many its base.
const DEPENDENCIES_CHANGE: usize = 4;
const BASE_CHANGES: usize = 15;

/// An image of one platform: indices of its objects.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub(super) manifest: usize,
    config: usize,
    base: Vec<usize>,
    dependencies: Vec<usize>,
    program: Vec<usize>,
    /// The median length of the layers that are its own.
    layer_bytes: f64,
    spread: f64,
}

impl Image {
    /// In the order in which a runtime asks for them.
    pub(super) fn objects(&self) -> impl Iterator<Item = usize> + '_ {
        let layers = [&self.base, &self.dependencies, &self.program];
        [self.manifest, self.config]
            .into_iter()
            .chain(layers.into_iter().flatten().copied())
    }
}

/// All images, and the objects they are made of.
pub(super) struct Images {
    pub(super) random: fastrand::Rng,
    pub(super) sizes: Vec<u64>,
    bases: Vec<Vec<usize>>,
    model_bases: Vec<Vec<usize>>,
}

impl Images {
    pub(super) fn new(seed: u64) -> Self {
        let mut images = Self {
            random: fastrand::Rng::with_seed(seed),
            sizes: Vec::new(),
            bases: Vec::new(),
            model_bases: Vec::new(),
        };
        images.bases = (0..BASES)
            .map(|_| images.layers(1..=4, 15.0 * MIB, 1.0))
            .collect();
        images.model_bases = (0..MODEL_BASES)
            .map(|_| images.layers(4..=7, 400.0 * MIB, MODEL_SPREAD))
            .collect();
        images
    }

    /// The image of a service, or any other.
    pub(super) fn service(&mut self) -> Image {
        let base = self.some_base();
        self.image(base, 4.0 * MIB, LAYER_SPREAD)
    }

    /// A compiler, a test runner: some hundred MiB.
    pub(super) fn tool(&mut self) -> Image {
        let base = self.some_base();
        self.image(base, 30.0 * MIB, LAYER_SPREAD)
    }

    /// Some GiB of libraries and a model.
    pub(super) fn model(&mut self) -> Image {
        let base = self.model_bases[self.random.usize(..MODEL_BASES)].clone();
        self.image(base, 600.0 * MIB, MODEL_SPREAD)
    }

    /// What `image` becomes: always another program, seldom other dependencies, rarely another base.
    pub(super) fn next_version(&mut self, image: &Image) -> Image {
        let mut next = image.clone();
        next.manifest = self.object(2.0 * KIB, DOCUMENT_SPREAD);
        next.config = self.object(6.0 * KIB, DOCUMENT_SPREAD);
        next.program = self.layers(1..=2, image.layer_bytes, image.spread);
        if self.random.usize(..DEPENDENCIES_CHANGE) == 0 {
            next.dependencies = self.layers(1..=4, image.layer_bytes, image.spread);
        }
        if self.random.usize(..BASE_CHANGES) == 0 {
            let median = self.sizes[image.base[0]] as f64;
            next.base = self.layers(1..=4, median, DOCUMENT_SPREAD);
        }
        next
    }

    fn some_base(&mut self) -> Vec<usize> {
        self.bases[self.random.usize(..BASES)].clone()
    }

    fn image(&mut self, base: Vec<usize>, layer_bytes: f64, spread: f64) -> Image {
        Image {
            manifest: self.object(2.0 * KIB, DOCUMENT_SPREAD),
            config: self.object(6.0 * KIB, DOCUMENT_SPREAD),
            base,
            dependencies: self.layers(1..=4, layer_bytes, spread),
            program: self.layers(1..=2, layer_bytes, spread),
            layer_bytes,
            spread,
        }
    }

    fn layers(&mut self, count: std::ops::RangeInclusive<usize>, median: f64, spread: f64) -> Vec<usize> {
        (0..self.random.usize(count))
            .map(|_| self.object(median, spread))
            .collect()
    }

    /// A new object, its length from a log-normal distribution.
    fn object(&mut self, median: f64, spread: f64) -> usize {
        let (one, other) = (1.0 - self.random.f64(), self.random.f64());
        let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * other).cos();
        let bytes = (median * (spread * normal).exp()).clamp(LAYER_BYTES.0, LAYER_BYTES.1);
        self.sizes.push(bytes as u64);
        self.sizes.len() - 1
    }
}
