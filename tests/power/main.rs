//! Power cuts and failing disks.
//!
//! The real store works on real files, through a layer of our own ([`vfs`]) that takes notes and can fail
//! ([`disk`]). [`cut`] looks at what every power cut in a random story would have left; [`fault`] lets operations
//! fail and looks at what the store makes of it. `PUSHPULL_CASES` multiplies the stories.

mod cut;
mod disk;
mod fault;
#[path = "../store/make.rs"]
#[expect(dead_code, reason = "the suite of the stores uses the rest")]
mod make;
#[path = "../store/story.rs"]
#[expect(dead_code, reason = "the suite of the stores uses the rest")]
mod story;
mod tale;
mod vfs;
