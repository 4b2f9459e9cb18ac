"""Leave out Thebe, which Jupyter Book always loads: it would run cells on another host, which this book never asks."""


def setup(app):
    for listeners in app.events.listeners.values():
        for listener in list(listeners):
            if listener.handler.__module__ == "sphinx_thebe":
                app.disconnect(listener.id)
    app.registry.css_files = [file for file in app.registry.css_files if file[0] != "sphinx-thebe.css"]
    return {"parallel_read_safe": True, "parallel_write_safe": True}
