"""Trained networks on HTML pages of one file each, where they run and learn in the browser without a connection."""

from snnjax.core import public
from snnjax.export.page._page import page_of as page_of
from snnjax.export.page._page import teaching_page as teaching_page

__all__ = public.names(vars())
