//! What one node's cache is asked for during some weeks, made up from a seed.
//!
//! There is no public trace of image pulls on a node, so this one is made of what nodes are known to do. A runtime
//! keeps images itself and asks the cache only for what it has not: the cache sees little of what is used all the
//! time. Jobs that build images, and scanners, start with nothing and ask for everything.

use std::collections::{HashMap, VecDeque};

use super::images::{Image, Images};

/// Pods started in a day whose image is one of the cluster's services.
const SERVICE_STARTS_PER_DAY: usize = 150;
const SERVICES: usize = 120;
/// New versions in a day, over all services.
const ROLLOUTS_PER_DAY: usize = 8;
const DAEMON_SETS: usize = 12;
const DAEMON_SET_ROLLOUT_DAYS: usize = 30;
/// Jobs in a day that start with an empty image store, such as builds in a container of their own.
const CI_JOBS_PER_DAY: usize = 40;
const CI_TOOLS: usize = 40;
const MODELS: usize = 8;
const MODEL_STARTS_PER_DAY: usize = 3;
const MODEL_ROLLOUT_DAYS: usize = 15;
/// A scanner comes by, and looks once at many images that nobody else asks for.
const SCAN_DAYS: usize = 7;
const SCANNED_IMAGES: usize = 250;
/// The node gets a new system; its cache stays.
const REINSTALL_DAYS: usize = 20;
/// What the runtime keeps before kubelet collects the images that were used least recently.
const RUNTIME_BYTES: u64 = 80 << 30;
/// The exponent of popularity: the n-th is asked for in proportion to n^-0.9, as in public registries' logs.
const POPULARITY_EXPONENT: f64 = 0.9;

/// What happens on the node besides its services.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Everything follows from it.
    pub seed: u64,
    /// How long it goes on.
    pub days: usize,
    /// Whether scanners come by.
    pub has_scans: bool,
    /// Whether images of many gigabytes are used.
    pub has_models: bool,
}

/// The requests, in order.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The length of each object in bytes.
    pub sizes: Vec<u64>,
    /// Indices into `sizes`.
    pub requests: Vec<usize>,
}

impl Trace {
    /// Makes the trace of `shape`: always the same.
    pub fn new(shape: Shape) -> Self {
        let mut node = Node::new(shape.seed);
        for day in 1..=shape.days {
            node.live(day, shape);
        }
        Self {
            sizes: node.images.sizes,
            requests: node.requests,
        }
    }

    /// All objects that are ever asked for, in bytes.
    pub fn footprint(&self) -> u64 {
        let mut asked = self.requests.clone();
        asked.sort_unstable();
        asked.dedup();
        asked.iter().map(|&object| self.sizes[object]).sum()
    }
}

/// What may happen on a day.
#[derive(Clone, Copy)]
enum Event {
    ServiceStarts,
    ServiceRollsOut,
    DaemonSetRollsOut(usize),
    CiJob,
    ModelStarts,
    ModelRollsOut(usize),
}

struct Node {
    images: Images,
    services: Vec<Image>,
    daemon_sets: Vec<Image>,
    tools: Vec<Image>,
    models: Vec<Image>,
    runtime: Runtime,
    requests: Vec<usize>,
}

impl Node {
    fn new(seed: u64) -> Self {
        let mut images = Images::new(seed);
        Self {
            services: (0..SERVICES).map(|_| images.service()).collect(),
            daemon_sets: (0..DAEMON_SETS).map(|_| images.service()).collect(),
            tools: (0..CI_TOOLS).map(|_| images.tool()).collect(),
            models: (0..MODELS).map(|_| images.model()).collect(),
            images,
            runtime: Runtime::default(),
            requests: Vec::new(),
        }
    }

    fn live(&mut self, day: usize, shape: Shape) {
        let mut events = vec![Event::ServiceStarts; SERVICE_STARTS_PER_DAY];
        events.extend([Event::ServiceRollsOut; ROLLOUTS_PER_DAY]);
        events.extend([Event::CiJob; CI_JOBS_PER_DAY]);
        let due = |which: usize, every: usize| (day + which).is_multiple_of(every);
        let daemon_sets = (0..DAEMON_SETS).filter(|&which| due(which * 7, DAEMON_SET_ROLLOUT_DAYS));
        events.extend(daemon_sets.map(Event::DaemonSetRollsOut));
        if shape.has_models {
            events.extend([Event::ModelStarts; MODEL_STARTS_PER_DAY]);
            let models = (0..MODELS).filter(|&which| due(which * 4, MODEL_ROLLOUT_DAYS));
            events.extend(models.map(Event::ModelRollsOut));
        }
        self.images.random.shuffle(&mut events);
        if day.is_multiple_of(REINSTALL_DAYS) || day == 1 {
            self.runtime = Runtime::default();
            for which in 0..DAEMON_SETS {
                self.start(self.daemon_sets[which].clone());
            }
        }
        for event in events {
            self.happen(event);
        }
        if shape.has_scans && day.is_multiple_of(SCAN_DAYS) {
            for _ in 0..SCANNED_IMAGES {
                let image = self.images.service();
                self.requests.extend(image.objects());
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ServiceStarts => {
                let which = self.popular(SERVICES);
                self.start(self.services[which].clone());
            }
            Event::ServiceRollsOut => {
                let which = self.popular(SERVICES);
                self.services[which] = self.images.next_version(&self.services[which]);
                self.start(self.services[which].clone());
            }
            Event::DaemonSetRollsOut(which) => {
                self.daemon_sets[which] = self.images.next_version(&self.daemon_sets[which]);
                self.start(self.daemon_sets[which].clone());
            }
            Event::CiJob => {
                let which = self.popular(CI_TOOLS);
                self.requests.extend(self.tools[which].objects());
                // What it built is tried out once, and then it is built anew.
                let which = self.popular(SERVICES);
                let built = self.images.next_version(&self.services[which]);
                self.requests.extend(built.objects());
            }
            Event::ModelStarts => {
                let which = self.popular(MODELS);
                self.start(self.models[which].clone());
            }
            Event::ModelRollsOut(which) => {
                self.models[which] = self.images.next_version(&self.models[which]);
            }
        }
    }

    fn start(&mut self, image: Image) {
        self.runtime.pull(image, &self.images.sizes, &mut self.requests);
    }

    /// One of `count`, the first most often.
    fn popular(&mut self, count: usize) -> usize {
        let weight = |rank: usize| ((rank + 1) as f64).powf(-POPULARITY_EXPONENT);
        let all: f64 = (0..count).map(weight).sum();
        let mut left = self.images.random.f64() * all;
        (0..count)
            .find(|&rank| {
                left -= weight(rank);
                left <= 0.0
            })
            .unwrap_or(0)
    }
}

/// What the node's runtime keeps: it asks for what it has not.
#[derive(Default)]
struct Runtime {
    /// From least to most recently used.
    images: VecDeque<Image>,
    /// How many of the images need an object.
    objects: HashMap<usize, usize>,
    bytes: u64,
}

impl Runtime {
    fn pull(&mut self, image: Image, sizes: &[u64], requests: &mut Vec<usize>) {
        if let Some(at) = self
            .images
            .iter()
            .position(|known| known.manifest == image.manifest)
        {
            self.images.remove(at);
        } else {
            for object in image.objects() {
                let users = self.objects.entry(object).or_default();
                *users += 1;
                if *users == 1 {
                    self.bytes += sizes[object];
                    requests.push(object);
                }
            }
        }
        self.images.push_back(image);
        while self.bytes > RUNTIME_BYTES
            && self.images.len() > 1
            && let Some(oldest) = self.images.pop_front()
        {
            for object in oldest.objects() {
                let users = self.objects.entry(object).or_default();
                *users -= 1;
                if *users == 0 {
                    self.objects.remove(&object);
                    self.bytes -= sizes[object];
                }
            }
        }
    }
}
