"""Stand-in of Slicer's module SampleData: keeps what modules register, and downloads nothing."""

from __future__ import annotations

from typing import Any

import slicer


class SampleDataSource:
    """One data set: where its files lie, what they are called, and how they are checked."""

    def __init__(
        self,
        sampleName: str | None = None,
        sampleDescription: str | None = None,
        uris: Any = None,
        fileNames: Any = None,
        nodeNames: Any = None,
        checksums: Any = None,
        loadFiles: Any = None,
        customDownloader: Any = None,
        thumbnailFileName: str | None = None,
        loadFileTypes: Any = None,
        loadFileProperties: dict | None = None,
        loadFileType: Any = None,
    ) -> None:
        self.uris = [uris] if isinstance(uris, str) else list(uris or [])
        self.sampleName = sampleName
        self.sampleDescription = sampleDescription or sampleName
        self.customDownloader = customDownloader
        self.thumbnailFileName = thumbnailFileName
        self.loadFileProperties = loadFileProperties or {}
        types = loadFileTypes if loadFileTypes is not None else loadFileType
        self.fileNames = self._each("fileNames", fileNames)
        self.nodeNames = self._each("nodeNames", nodeNames)
        self.checksums = self._each("checksums", checksums)
        self.loadFiles = self._each("loadFiles", loadFiles)
        self.loadFileTypes = self._each("loadFileTypes", types)

    def _each(self, name: str, values: Any) -> list:
        """One entry for each file; Slicer fails on a wrong number when the user downloads, the host at once."""
        count = len(self.uris)
        if isinstance(values, (list, tuple)):
            entries = list(values)
        else:
            entries = [values] * (count if values is None or name.startswith("loadFile") else 1)
        if len(entries) != count:
            raise ValueError(f"{self.sampleName}: {count} uris and {len(entries)} {name}")
        return entries


class SampleDataLogic:
    """Registers data sets under ``slicer.modules.sampleDataSources``."""

    @staticmethod
    def registerCustomSampleDataSource(category: str = "Custom", **options: Any) -> None:
        """Add a data set to a category of the module's gallery, once."""
        if not hasattr(slicer.modules, "sampleDataSources"):
            slicer.modules.sampleDataSources = {}
        sources = slicer.modules.sampleDataSources.setdefault(category, [])
        source = SampleDataSource(**options)
        if not any(vars(known) == vars(source) for known in sources):
            sources.append(source)

    def downloadFromSource(self, source: SampleDataSource, *_arguments: Any) -> Any:
        raise RuntimeError(f"The test host downloads nothing, not even {source.sampleName}.")

    downloadSample = downloadSamples = downloadFromSource
