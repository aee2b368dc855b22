"""`snnjax demo`: writes a web page on which a trained network runs in the browser."""

from snnjax.app import lookup, options, page, run_data
from snnjax.core import files
from snnjax.core.errors import printable
from snnjax.export.page import page_of, teaching_page
from snnjax.runs.trained import Trained

PICTURES = 20  # number of test pictures on the page


def run(chosen: options.Demo) -> None:
    """Writes the page; only an earlier page of snnjax is overwritten, and no other file."""
    lookup.import_all(chosen.parts.modules)
    trained = Trained.read(chosen.run)
    page.check_path(chosen.out)
    prepared = run_data.prepare(chosen, trained, chosen.run)
    shown = prepared.images.subset(None, PICTURES)
    centred = run_data.learned_handwriting(trained)
    fit = chosen.data.fit or trained.settings.get("fit") or "crop"
    if chosen.teach:
        text = teaching_page(trained, shown.test_images, shown.test_labels, chosen.bits, centred=centred, fit=fit)
    else:
        network = trained.spiking_network()
        text = page_of(network, shown.test_images, shown.test_labels, chosen.bits, centred=centred, fit=fit)
    files.write_text(chosen.out.absolute(), text)
    print(f"{printable(str(chosen.out))}: open it in a browser; {len(text.encode()) / 1e6:.1f} MB")
