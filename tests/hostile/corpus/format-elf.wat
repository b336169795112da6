;; trick: an ELF file
;; end: refused ELF
(module binary "\7f\45\4c\46\02\01\01\00")
