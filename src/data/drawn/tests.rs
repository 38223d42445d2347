//! What must hold of the drawn pictures.

use super::*;

#[test]
fn writes_a_contact_sheet() {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("CONVZOO_SHEET")
        .map_or_else(|| folder.path().join("sheet.png"), std::path::PathBuf::from);
    let set = cats_dogs(1, 80, 4);
    let start = std::time::Instant::now();
    let sheet = sheet(set.train.as_ref(), 10, 8).unwrap();
    println!("{:.2} ms a picture", start.elapsed().as_secs_f64() * 1e3 / 80.0);
    let (width, height) = (sheet.width as u32, sheet.height as u32);
    image::save_buffer(&path, &sheet.pixels, width, height, image::ColorType::Rgb8).unwrap();
    let read = image::open(&path).unwrap().to_rgb8();
    assert_eq!((read.width(), read.height()), (1280, 1024));
    assert_eq!(read.into_raw(), sheet.pixels);
}
