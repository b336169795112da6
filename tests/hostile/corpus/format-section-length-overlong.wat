;; trick: a length of more than five bytes
;; end: refused offset
(module binary "\00\61\73\6d\01\00\00\00\01\80\80\80\80\80\00")
