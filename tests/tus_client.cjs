// tus-js-client as a command: one JSON object of options in, the upload's URL or the error's status out.
const fs = require('fs');
const stream = require('stream');
const tus = require('tus-js-client');

const given = JSON.parse(process.argv[2]);
const file = fs.createReadStream(given.file);
// Of a file it knows the length, and announces more than there is when it was told not to.
const source = given.uploadLengthDeferred ? file.pipe(new stream.PassThrough()) : file;
const upload = new tus.Upload(source, {
  endpoint: given.endpoint,
  uploadUrl: given.uploadUrl ?? null,
  chunkSize: given.chunkSize ?? Infinity,
  parallelUploads: given.parallelUploads ?? 1,
  retryDelays: given.retryDelays ?? [],
  overridePatchMethod: given.overridePatchMethod ?? false,
  uploadLengthDeferred: given.uploadLengthDeferred ?? false,
  uploadDataDuringCreation: given.uploadDataDuringCreation ?? false,
  metadata: { filename: 'wörld.raw' },
  urlStorage: given.urlStorage ? new tus.FileUrlStorage(given.urlStorage) : undefined,
  storeFingerprintForResuming: Boolean(given.urlStorage),
  onError: (error) => {
    console.log(JSON.stringify({ status: error.originalResponse?.getStatus() ?? 0, said: String(error) }));
    process.exit(1);
  },
  onSuccess: () => {
    console.log(JSON.stringify({ url: upload.url }));
    process.exit(0);
  },
});
if (given.urlStorage) {
  upload.findPreviousUploads().then((previous) => {
    if (previous.length) upload.resumeFromPreviousUpload(previous[0]);
    upload.start();
  });
} else {
  upload.start();
}
