"""What a methods section cites, numbered in the order in which it is cited."""

SOURCES = {
    "study": "Real-Time, Label-Free Classification of Cell Death Pathways via Holotomography-Based Deep Learning "
    "Framework. Advanced Intelligent Systems (2025). doi:10.1002/aisy.202500633",
    "ome-zarr": "Moore J. et al. OME-Zarr: a cloud-optimized bioimaging file format with international community "
    "support. Histochemistry and Cell Biology 160, 223-251 (2023). doi:10.1007/s00418-023-02209-1",
    "calibration": "Guo C., Pleiss G., Sun Y., Weinberger K. Q. On calibration of modern neural networks. Proceedings "
    "of the 34th International Conference on Machine Learning, PMLR 70, 1321-1330 (2017).",
    "wilson": "Wilson E. B. Probable inference, the law of succession, and statistical inference. Journal of the "
    "American Statistical Association 22, 209-212 (1927). doi:10.1080/01621459.1927.10502953",
    "confusion": "Rogan W. J., Gladen B. Estimating prevalence from the results of a screening test. American Journal "
    "of Epidemiology 107, 71-76 (1978). doi:10.1093/oxfordjournals.aje.a112510",
    "em": "Saerens M., Latinne P., Decaestecker C. Adjusting the outputs of a classifier to new a priori "
    "probabilities: a simple procedure. Neural Computation 14, 21-41 (2002). doi:10.1162/089976602753284446",
    "sebaugh": "Sebaugh J. L. Guidelines for accurate EC50/IC50 estimation. Pharmaceutical Statistics 10, 128-134 "
    "(2011). doi:10.1002/pst.426",
    "z_prime": "Zhang J. H., Chung T. D. Y., Oldenburg K. R. A simple statistical parameter for use in evaluation and "
    "validation of high throughput screening assays. Journal of Biomolecular Screening 4, 67-73 (1999). "
    "doi:10.1177/108705719900400206",
    "ssmd": "Zhang X. D. A pair of new statistical parameters for quality control in RNA interference high-throughput "
    "screening assays. Genomics 89, 552-561 (2007). doi:10.1016/j.ygeno.2006.12.014",
    "abbott": "Abbott W. S. A method of computing the effectiveness of an insecticide. Journal of Economic Entomology "
    "18, 265-267 (1925). doi:10.1093/jee/18.2.265a",
    "b_score": "Brideau C., Gunter B., Pikounis B., Liaw A. Improved statistical methods for hit selection in "
    "high-throughput screening. Journal of Biomolecular Screening 8, 634-647 (2003). doi:10.1177/1087057103258285",
    "fdr": "Benjamini Y., Hochberg Y. Controlling the false discovery rate: a practical and powerful approach to "
    "multiple testing. Journal of the Royal Statistical Society B 57, 289-300 (1995). "
    "doi:10.1111/j.2517-6161.1995.tb02031.x",
    "stack": "Forcina G. C., Conlon M., Wells A., Cao J. Y., Dixon S. J. Systematic quantification of population cell "
    "death kinetics in mammalian cells. Cell Systems 4, 600-610 (2017). doi:10.1016/j.cels.2017.05.002",
    "dask": "Rocklin M. Dask: parallel computation with blocked algorithms and task scheduling. Proceedings of the "
    "14th Python in Science Conference, 126-132 (2015). doi:10.25080/Majora-7b98e3ed-013",
    "xarray": "Hoyer S., Hamman J. xarray: N-D labeled arrays and datasets in Python. Journal of Open Research "
    "Software 5, 10 (2017). doi:10.5334/jors.148",
    "zarr": "Miles A. et al. zarr-developers/zarr-python. Zenodo. doi:10.5281/zenodo.3773449",
    "numpy": "Harris C. R. et al. Array programming with NumPy. Nature 585, 357-362 (2020). "
    "doi:10.1038/s41586-020-2649-2",
    "scipy": "Virtanen P. et al. SciPy 1.0: fundamental algorithms for scientific computing in Python. Nature Methods "
    "17, 261-272 (2020). doi:10.1038/s41592-019-0686-2",
    "pytorch": "Paszke A. et al. PyTorch: an imperative style, high-performance deep learning library. Advances in "
    "Neural Information Processing Systems 32, 8024-8035 (2019).",
}


class Citations:
    """Numbers sources as they come up; the same source keeps its number."""

    def __init__(self, *, numbered: bool = True) -> None:
        self._cited: list[str] = []
        self._numbered = numbered

    def __call__(self, *keys: str) -> str:
        """Cite sources and return what stands in the text, " [1, 2]"; nothing where numbers are not wanted."""
        self._cited += [key for key in keys if key not in self._cited]
        numbers = sorted(self._cited.index(key) + 1 for key in keys)
        return f" [{', '.join(map(str, numbers))}]" if self._numbered else ""

    def listed(self) -> list[str]:
        """Every source cited so far with its number."""
        return [f"[{number}] {SOURCES[key]}" for number, key in enumerate(self._cited, start=1)]
